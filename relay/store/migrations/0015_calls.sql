-- Calls of the API that are carried out once, and names of routes.

-- The keys of calls with an Idempotency-Key, for 24 hours. A call inserts its row before it does anything. The
-- transaction of its change notes in the row that the call has changed something, with its answer, so that both are
-- stored or neither is. The relay deletes rows by their age.
create table idempotency_keys (
    -- The SHA-256 of the caller and its key.
    id bytea primary key check (octet_length(id) = 32),
    -- The SHA-256 of the request: method, path, query, customer and body.
    request bytea not null check (octet_length(request) = 32),
    -- The call that has the key. A call that no longer has it can change nothing.
    call uuid not null,
    claimed_at timestamptz not null default now(),
    -- The end of the longest time that the call can take. Then another call may take a key without a change.
    ends_at timestamptz not null,
    -- When the call changed something; null if it has not.
    changed_at timestamptz,
    -- The answer of the call, sealed; null if there is none yet.
    answer text
) with (
    -- Each row is updated once or twice. Its new version stays in its page, and no index changes.
    fillfactor = 70
);
create index idempotency_keys_by_age on idempotency_keys (claimed_at);

-- How many keys each caller has used on a day (UTC).
create table idempotency_counts (
    caller text not null,
    day date not null,
    keys integer not null,
    primary key (caller, day)
) with (fillfactor = 50);

-- The name of a route, unique among the routes of its customer; null if it has none.
alter table routes add column name text;
create unique index route_name_is_unique_for_its_customer on routes (customer_id, name) where name is not null;
