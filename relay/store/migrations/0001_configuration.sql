-- The configuration: which sources receive webhooks, which destinations get them, and which routes connect both.
--
-- The files of this folder follow the data: the configuration, events, deliveries, replays, counters, and the
-- partitions of history. Their words are those of the glossary of ARCHITECTURE.md. Only the relay writes to these
-- tables; the comments name the part of it that writes.
--
-- There are two kinds of tables:
--
-- - Small tables whose rows are updated and deleted: the configuration, and everything that is still to be done, such
--   as pending_deliveries and replays.
-- - History: events, event_bodies, event_keys, event_copies, rejections, unreadable_messages, settled_deliveries,
--   attempts, source_counters, destination_counters. These tables are partitioned by day (UTC). A day is dropped as a
--   partition when its retention ends, never by DELETE, so old rows cost nothing. They have no foreign keys: dropping a
--   partition checks no other table, and storing an event does not wait for a source that is being deleted.
--
-- Ids are UUIDv7. Their first 48 bits are Unix time in milliseconds. So a range of ids is a range of time, a day of
-- history is a range of ids, and a lookup by id reads one partition.
--
-- A column that ends in _sealed is encrypted and authenticated with TIDEGATE_MASTER_KEY. The table, the column and the
-- id of the row are part of the authenticated data. Times are those of the database's clock unless a comment says
-- otherwise.

-- The owners of sources, destinations, routes, and everything that belongs to them. There is exactly one row.
create table customers (
    id uuid primary key,
    name text not null unique,
    created_at timestamptz not null default now()
);
-- The default customer, which the relay knows by this id (`store::DEFAULT_CUSTOMER`).
insert into customers (id, name) values ('00000000-0000-7000-8000-000000000001', 'default');

-- The version of the configuration, in one row. Every change of a source, a destination or a route updates it in its
-- own transaction (`configuration::Change`). A replica compares it with the version of its snapshot, in every
-- transaction that stores events and in every scan. So no event is routed by an outdated configuration.
create table configuration (
    only_row boolean primary key default true check (only_row),
    -- The number of changes so far, plus one.
    revision bigint not null,
    -- Random, new with each change. After a failover to a standby that lags, or after a restore, the revision is lower
    -- than before, and later changes reach the same numbers with other content. So versions are compared for equality
    -- of both.
    identity uuid not null default gen_random_uuid()
);
insert into configuration (revision) values (1);

-- A source is a URL that one provider posts to. The API writes the rows. The relay copies each of them to the edge.
create table sources (
    id uuid primary key,
    customer_id uuid not null references customers (id),
    -- Part of a URL of the source, and unique for its customer.
    name text not null,
    -- An entry of the catalogue, for instance 'stripe'.
    provider text not null,
    -- Counts the changes of the source. A change by the API adds one. The relay raises it further if the edge has
    -- stored a newer revision.
    revision bigint not null default 1,
    -- The newest revision that the edge has confirmed; 0 if it has confirmed none. The relay writes the source to the
    -- edge until this equals `revision`.
    edge_revision bigint not null default 0,
    -- When the relay next compares the source as stored at the edge with this row. It does so only if the edge has
    -- confirmed the newest revision.
    edge_check_at timestamptz not null default now(),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    -- The digest of the sealed text that the edge stored when it confirmed `edge_revision`; null if it has given none.
    edge_digest text,
    -- Why the edge does not have the newest revision, as the API shows it; null if nothing failed.
    edge_error text,
    -- The settings of the source, in the form of the API.
    config jsonb not null,
    -- The secrets that the source verifies with: a JSON list.
    secrets_sealed text not null,
    -- The secrets that were removed from the source, newest first: a JSON list; null if there are none.
    retired_secrets_sealed text,
    constraint source_name_is_unique_for_its_customer unique (customer_id, name),
    constraint edge_is_not_ahead_of_the_source check (edge_revision <= revision)
);
-- The sources whose comparison with the edge is due.
create index sources_by_edge_check on sources (edge_check_at) where edge_revision = revision;

-- Sources that were deleted within the last week. The relay compares them with the edge, because a write that was in
-- flight can reach the edge after the deletion. It deletes the row after the last comparison.
create table deleted_sources (
    id uuid primary key,
    customer_id uuid not null references customers (id),
    -- The name of the source. The edge has stored the source under its id and its name.
    name text not null,
    -- The revision of the tombstone at the edge. It is above that of every configuration that was written there.
    revision bigint not null,
    deleted_at timestamptz not null default now(),
    -- When the relay next compares the source with the edge.
    edge_check_at timestamptz not null
);
-- The deleted sources whose comparison with the edge is due.
create index deleted_sources_by_edge_check on deleted_sources (edge_check_at);

-- A destination is an HTTP endpoint with its limits and its signing secret. The API writes the rows. The relay disables
-- a destination that answers 410 or has failed for days.
create table destinations (
    id uuid primary key,
    customer_id uuid not null references customers (id),
    name text not null,
    -- The shard of the destination, a hash of its id. The owner of the shard sends to the destination.
    shard smallint not null check (shard between 0 and 255),
    url text not null,
    -- Whether the query of the provider's request is appended to the URL.
    append_query boolean not null,
    -- The rate limit: so many deliveries in each period. Both are null if there is no limit.
    rate_limit integer check (rate_limit > 0),
    rate_per text check (rate_per in ('second', 'minute', 'hour')),
    -- The maximum number of attempts in flight.
    max_concurrency integer not null check (max_concurrency between 1 and 1000),
    -- The time that one attempt may take, in milliseconds.
    timeout_ms integer not null check (timeout_ms between 100 and 120000),
    -- The retry policy, in the form of the API.
    retry jsonb not null,
    state text not null default 'active' check (state in ('active', 'paused', 'disabled')),
    state_changed_at timestamptz not null default now(),
    -- When a change last gave the URL another scheme, host or port. Of what the engine learned about the destination
    -- before this time, it uses only the last send of the rate.
    moved_at timestamptz not null default now(),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    -- Why the relay disabled the destination; null if it did not.
    state_reason text,
    -- The static headers of the requests: a JSON object, sealed because it often contains credentials; null if there
    -- are none.
    headers_sealed text,
    -- The signing secrets, newest first, each with the time at which it ends: a JSON list.
    signing_secrets_sealed text not null,
    constraint destination_name_is_unique_for_its_customer unique (customer_id, name),
    constraint a_rate_has_a_period check ((rate_limit is null) = (rate_per is null))
);

-- A route connects a source to a destination. The API writes the rows. The expressions are CEL.
create table routes (
    id uuid primary key,
    customer_id uuid not null references customers (id),
    source_id uuid not null references sources (id) on delete cascade,
    destination_id uuid not null references destinations (id) on delete cascade,
    -- Counts the changes of the transform.
    version integer not null default 1,
    enabled boolean not null default true,
    -- What happens to the later deliveries of an order key if one fails. 'block': they wait until it has succeeded or
    -- is dead. 'skip': they wait only until it has failed once.
    poison text not null default 'block' check (poison in ('block', 'skip')),
    created_at timestamptz not null default now(),
    -- Deliveries that were held before this time are released, because the change may have removed the cause.
    updated_at timestamptz not null default now(),
    -- Decides whether an event becomes a delivery; null if every event does.
    filter text,
    -- Deliveries with the same value are sent one after the other, in the order in which they were stored; null if the
    -- deliveries have no order.
    order_key text,
    -- Makes the body that is sent; null if the raw bytes are sent.
    transform text,
    -- The webhook-id of a delivery is the id of its event. With two routes the destination would receive the same
    -- webhook-id twice, and could take the second delivery for a repetition of the first. The index also finds the
    -- routes of a source.
    constraint one_route_joins_a_source_and_a_destination unique (source_id, destination_id)
);
-- The routes to a destination: for lists, and for its deletion.
create index routes_by_destination on routes (destination_id);

-- Versions of routes that are no longer current: those before a change of the transform, and the last version of each
-- deleted route, also if it was deleted with its source or its destination. A delivery is sent with the transform of
-- the version that it was routed with. The relay deletes a row when no pending delivery can name it any more.
create table route_versions (
    route_id uuid not null,
    version integer not null,
    kept_at timestamptz not null default now(),
    -- The poison of the route when the version was kept. It counts only if the route is deleted.
    poison text not null,
    -- The name of the source, which the transform can use.
    source_name text not null,
    -- Null if the raw bytes are sent.
    transform text,
    primary key (route_id, version)
);
-- The versions that are old enough to be deleted.
create index route_versions_by_age on route_versions (kept_at);
