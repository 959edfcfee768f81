-- Operations: bulk work in the background, and what the deletion of a customer, the erasure of a body and a shorter
-- retention of bodies need.

-- An operation is bulk work in the background that survives restarts. The API inserts the rows. The relay works on them
-- in chunks: the transaction of a chunk does the work and moves the cursor, and it locks the row, so that one replica at
-- a time works on an operation.
create table operations (
    id uuid primary key,
    -- The customer that owns the operation; null if it belongs to the deployment.
    customer_id uuid references customers (id),
    created_at timestamptz not null default now(),
    -- When the operation last moved or failed.
    updated_at timestamptz not null default now(),
    -- When the operation ended; null while it runs.
    finished_at timestamptz,
    -- When the next chunk may begin.
    next_at timestamptz not null default now(),
    -- How far the step has come; null at its beginning.
    cursor_id uuid,
    -- How many rows or values the operation has processed, and how many of them it could not process.
    processed bigint not null default 0,
    failed bigint not null default 0,
    -- How many there are in total; null if that is not known.
    total bigint,
    -- How often in a row a chunk has failed at this place. Each further try covers fewer rows.
    tries integer not null default 0,
    -- A kind that a relay does not know is left to a newer relay.
    kind text not null,
    state text not null default 'running' check (state in ('running', 'completed', 'failed')),
    -- The part of the work that the cursor belongs to. Each kind has steps of its own.
    step text not null,
    -- What the operation is about, in the form of the API.
    parameters jsonb not null default '{}',
    -- Why the last chunk has failed, or why the operation has failed; null if neither has.
    error text,
    constraint finished_operations_are_not_running check ((finished_at is null) = (state = 'running'))
);
-- The running operations, next one first.
create index operations_running on operations (next_at, id) where state = 'running';

-- The sources and destinations of a customer that is being deleted. History has no index by customer; some of its tables
-- name only the source or the destination. The deletion inserts the rows, and its last chunk deletes them.
create table operation_objects (
    operation_id uuid not null references operations (id) on delete cascade,
    kind text not null check (kind in ('source', 'destination')),
    id uuid not null,
    primary key (operation_id, kind, id)
);

alter table customers
    -- When the customer was deleted; null if it was not. The API does not show a deleted customer. Its row has another
    -- name, so that the name is free, and stays until the operation that deletes what it owned has ended.
    add column deleted_at timestamptz,
    -- For how many days the bodies of its events are kept; null if for as long as those of the deployment.
    add column body_retention_days smallint check (body_retention_days >= 1);

-- A deleted source is compared with the edge for a week, also if its customer is gone by then.
alter table deleted_sources alter column customer_id drop not null;

-- When the body was erased by a call of the API; null if it was not. A body whose retention has ended is not erased.
alter table events add column body_erased_at timestamptz;

-- The message that became an event, for the erasure of its body. Few messages are unreadable.
create index unreadable_messages_by_event on unreadable_messages (event_id) where event_id is not null;

-- How far the bodies of customers with a shorter retention have been deleted, by the number of days of that retention.
create table body_retention (
    days smallint primary key,
    -- The bodies of events before this id have been visited.
    until_id uuid not null,
    -- When the walk last began. It begins again each day, because an event may be stored days after the time in its id.
    begun_at timestamptz not null default now()
);

-- The bodies whose shorter retention has ended while a pending delivery needed them. They are deleted when it has ended.
create table needed_bodies (
    event_id uuid primary key,
    -- When the relay checks again.
    check_at timestamptz not null default now()
);
create index needed_bodies_to_check on needed_bodies (check_at);
