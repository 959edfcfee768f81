-- The tables of the relay, in the order of the data.
--
-- Two kinds of table. Small ones that are changed in place: customers, sources, destinations, routes, leases, replays,
-- and pending_deliveries, which holds only what is still to be delivered. And history, which is only appended to:
-- events, event_bodies, event_keys, settled_deliveries, attempts, rejections, quarantine. History is partitioned by day
-- and dropped by partition, never by DELETE, so that what has been delivered costs nothing.
--
-- Ids are UUIDv7. Their first 48 bits are the Unix time in milliseconds, so a range of ids is a range of time: the
-- partitions of a day are a range of ids, and a look-up by id touches one partition.

create table customers (
    id uuid primary key,
    name text not null unique,
    created_at timestamptz not null default now()
);

-- Everything belongs to a customer; a deployment that serves one team has only this one.
insert into customers (id, name) values ('00000000-0000-7000-8000-000000000001', 'default');

-- Grows by one with every change of sources, destinations and routes. Replicas compare it with what they hold in
-- memory: once in every transaction that stores events, so that an event is never routed by an old configuration.
create table configuration (
    only_row boolean primary key default true check (only_row),
    revision bigint not null
);
insert into configuration (revision) values (1);

create table sources (
    id uuid primary key,
    customer_id uuid not null references customers (id),
    name text not null,
    provider text not null,
    config jsonb not null,
    -- A JSON list, sealed with the master key; the id is part of what is authenticated.
    secrets_sealed text not null,
    -- Those that were accepted before, sealed likewise, the newest first; null where there are none.
    retired_secrets_sealed text,
    revision bigint not null default 1,
    -- The newest revision that the edge has confirmed; the edge is told until it equals revision.
    edge_revision bigint not null default 0,
    edge_error text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint source_name_is_unique_for_its_customer unique (customer_id, name),
    constraint edge_is_not_ahead_of_the_source check (edge_revision <= revision)
);

create table destinations (
    id uuid primary key,
    customer_id uuid not null references customers (id),
    name text not null,
    url text not null,
    -- hash of the id: which of the 256 shards this destination belongs to. The owner of the shard sends for it.
    shard smallint not null check (shard between 0 and 255),
    -- A JSON list of signing keys with the time at which each of them ends, newest first, sealed with the master key.
    signing_secrets_sealed text not null,
    -- A JSON object of static headers, sealed because they often hold credentials; null where there are none.
    headers_sealed text,
    rate_limit integer check (rate_limit > 0),
    rate_per text check (rate_per in ('second', 'minute', 'hour')),
    max_concurrency integer not null check (max_concurrency between 1 and 1000),
    timeout_ms integer not null check (timeout_ms between 100 and 120000),
    retry jsonb not null,
    state text not null default 'active' check (state in ('active', 'paused', 'disabled')),
    state_reason text,
    state_changed_at timestamptz not null default now(),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint destination_name_is_unique_for_its_customer unique (customer_id, name),
    constraint a_rate_has_a_period check ((rate_limit is null) = (rate_per is null))
);
create index destinations_by_shard on destinations (shard);

-- What the owner of a destination's shard sees of it, written when its state changes and every few seconds while it is
-- sent to, never per attempt. Apart from the destinations, whose changes everybody reads.
create table destination_health (
    destination_id uuid primary key references destinations (id) on delete cascade,
    -- Of the owner that wrote it: an earlier one does not write over a later one.
    epoch bigint not null,
    breaker text not null check (breaker in ('closed', 'open', 'half_open')),
    breaker_since timestamptz,
    -- When the next probe is due, while the breaker is open.
    probe_at timestamptz,
    -- The destination has asked for a pause until then.
    back_off_until timestamptz,
    -- Why less is sent than the limits allow, and since when.
    reduced_by text,
    reduced_since timestamptz,
    rate_factor double precision not null,
    concurrency integer not null,
    in_flight integer not null,
    waiting_fresh integer not null,
    waiting_retry integer not null,
    waiting_replay integer not null,
    recent_attempts integer not null,
    recent_failures integer not null,
    latency_ms integer,
    -- The run of failures without a success that disables a destination after days; null where the last one succeeded.
    failing_since timestamptz,
    failures bigint not null default 0,
    reported_at timestamptz not null
) with (fillfactor = 50);

create table routes (
    id uuid primary key,
    customer_id uuid not null references customers (id),
    source_id uuid not null references sources (id) on delete cascade,
    destination_id uuid not null references destinations (id) on delete cascade,
    -- CEL; null matches every event, and sends the raw bytes.
    filter text,
    transform text,
    -- CEL: deliveries of the same value go one after the other, in the order in which they were stored.
    order_key text,
    -- What a delivery that fails means for the later ones of its key: they wait until it has ended, or they go on.
    poison text not null default 'block' check (poison in ('block', 'skip')),
    enabled boolean not null default true,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    -- The webhook-id of a delivery is its event's id: two deliveries of one event to one destination would look like a
    -- repetition to the receiver.
    constraint one_route_joins_a_source_and_a_destination unique (source_id, destination_id)
);
create index routes_by_destination on routes (destination_id);

create table events (
    id uuid not null,
    customer_id uuid not null,
    source_id uuid not null,
    received_at timestamptz not null,
    stored_at timestamptz not null default now(),
    type text,
    -- The id the provider gave it.
    provider_event_id text,
    method text not null,
    query text not null,
    headers jsonb not null,
    body_size integer not null,
    verification text not null check (verification in ('verified', 'stale', 'unsigned', 'failed', 'released')),
    -- Why it was refused, of an event that is or was in quarantine: a stable code, and what its owner is told.
    failure_cause text,
    failure_detail text,
    -- How many more times the provider sent the same id within the dedupe window.
    copies integer not null default 0,
    primary key (id),
    constraint refused_events_have_a_cause check ((verification in ('failed', 'released')) = (failure_cause is not null)),
    constraint a_cause_has_a_detail check ((failure_cause is null) = (failure_detail is null))
) partition by range (id);
-- Pages of one source's events, newest first.
create index events_by_source on events (source_id, id);
-- `key=` of the events call: the provider's own id.
create index events_by_provider_event_id on events (provider_event_id) where provider_event_id is not null;
-- Those in quarantine, few among many: pages of them, and the replays that release them.
create index events_in_quarantine on events (id) where verification = 'failed';

-- Apart from the events, because bodies are kept for a shorter time than what is known about them.
create table event_bodies (
    event_id uuid not null,
    body bytea not null,
    primary key (event_id)
) partition by range (event_id);

-- Which (source, provider's id) was seen on which day: the dedupe window is a number of days of it.
create table event_keys (
    source_id uuid not null,
    key bytea not null,
    day date not null,
    event_id uuid not null,
    primary key (source_id, key, day)
) partition by range (day);

-- Only what is still to be delivered: narrow, no payload. Settling deletes the row.
create table pending_deliveries (
    id uuid primary key,
    customer_id uuid not null,
    destination_id uuid not null,
    event_id uuid not null,
    source_id uuid not null,
    route_id uuid,
    -- The replay that made it, or null.
    replay_id uuid,
    -- When the next attempt is due; 'infinity' while the delivery is held.
    due_at timestamptz not null,
    attempts smallint not null default 0,
    -- The attempts made before the present schedule began: a delivery that is retried by hand gets a fresh schedule.
    schedule_start smallint not null default 0,
    -- Fresh, retry, replay: each is read by itself, so that a million of one hide nothing of the others.
    lane smallint not null generated always as
        (case when replay_id is not null then 2 when attempts > 0 then 1 else 0 end) stored,
    -- A hash of its order key; null where it has no order.
    order_key bigint,
    -- Why it waits for a person: the error of its transform.
    held_reason text,
    constraint held_deliveries_are_never_due check ((held_reason is not null) = (due_at = 'infinity'))
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000);
-- The engine reads the heads of the lanes of ready destinations.
create index pending_deliveries_by_lane on pending_deliveries (destination_id, lane, due_at, id);
-- The first of a key.
create index pending_deliveries_by_order_key on pending_deliveries (destination_id, order_key, id)
    where order_key is not null;
create index pending_deliveries_by_event on pending_deliveries (event_id);
create index pending_deliveries_by_replay on pending_deliveries (replay_id, id) where replay_id is not null;

create table settled_deliveries (
    id uuid not null,
    customer_id uuid not null,
    destination_id uuid not null,
    event_id uuid not null,
    source_id uuid not null,
    route_id uuid,
    replay_id uuid,
    state text not null check (state in ('succeeded', 'dead', 'cancelled')),
    -- The error class of the last attempt, for the error filter and for replays; null where it succeeded.
    error text,
    -- Why it is dead, for a person.
    reason text,
    attempts smallint not null,
    schedule_start smallint not null,
    settled_at timestamptz not null default now(),
    primary key (id),
    constraint dead_deliveries_have_a_reason check (state <> 'dead' or reason is not null)
) partition by range (id);
create index settled_deliveries_by_destination on settled_deliveries (destination_id, id);
create index settled_deliveries_by_event on settled_deliveries (event_id);
create index settled_deliveries_not_succeeded on settled_deliveries (state, id) where state <> 'succeeded';

create table attempts (
    id uuid not null,
    delivery_id uuid not null,
    destination_id uuid not null,
    event_id uuid not null,
    number smallint not null check (number >= 1),
    started_at timestamptz not null,
    latency_ms integer not null check (latency_ms >= 0),
    -- Of the answer; null where there was none.
    status smallint,
    -- Error class; null where it succeeded.
    error text,
    detail text,
    response_excerpt text,
    primary key (id)
) partition by range (id);
create index attempts_by_delivery on attempts (delivery_id, number);

create table rejections (
    id uuid not null,
    source_id uuid not null,
    cause text not null,
    detail text not null,
    count bigint not null check (count >= 1),
    first_at timestamptz not null,
    last_at timestamptz not null,
    size bigint not null,
    remote text not null,
    primary key (id)
) partition by range (id);
create index rejections_by_source on rejections (source_id, id);

-- What happened in each minute, added to by the transactions that store and settle: whoever looks at it counts nothing.
-- A row takes in at least one event or delivery, so this is a small part of history at the most.
create table source_counters (
    source_id uuid not null,
    minute timestamptz not null,
    -- Transactions that store at the same time add to different parts: with one row, each would wait for the other's commit.
    part smallint not null,
    stored bigint not null,
    copies bigint not null,
    -- Requests that the edge refused.
    rejected bigint not null,
    primary key (source_id, minute, part)
) partition by range (minute);

create table destination_counters (
    destination_id uuid not null,
    minute timestamptz not null,
    succeeded bigint not null,
    dead bigint not null,
    -- Attempts, by how long they took.
    failed_attempts bigint not null,
    within_50_ms bigint not null,
    within_250_ms bigint not null,
    within_1_s bigint not null,
    within_5_s bigint not null,
    within_30_s bigint not null,
    longer bigint not null,
    primary key (destination_id, minute)
) partition by range (minute);

-- What came out of the queue and could not be stored as an event, kept whole.
create table quarantine (
    id uuid not null,
    queue_message_id text not null,
    reason text not null,
    message bytea not null,
    quarantined_at timestamptz not null default now(),
    primary key (id)
) partition by range (id);

-- A replica's row is its lease: shards whose owner has no row, or an expired one, are free.
create table replicas (
    id uuid primary key,
    expires_at timestamptz not null,
    -- It shuts down: it takes no more shards, and gives back those it has as soon as nothing of them is under way.
    leaving boolean not null default false,
    started_at timestamptz not null default now()
) with (fillfactor = 50);

create table shards (
    shard smallint primary key check (shard between 0 and 255),
    owner uuid,
    -- Grows with every change of owner. What an owner settles names the epoch it owned the shard in.
    epoch bigint not null default 0
) with (fillfactor = 70);
insert into shards (shard) select generate_series(0, 255);

create table replays (
    id uuid primary key,
    customer_id uuid not null references customers (id),
    filter jsonb not null,
    -- Deliver to this destination in place of the original ones.
    destination_id uuid references destinations (id) on delete set null,
    rate_limit integer check (rate_limit > 0),
    rate_per text check (rate_per in ('second', 'minute', 'hour')),
    state text not null check (state in ('running', 'completed', 'cancelled')),
    -- What the filter matched when the replay was made; nothing newer than `until_id` is part of it.
    matched bigint not null,
    until_id uuid not null,
    -- The last row that has been taken; null before the first.
    cursor_id uuid,
    -- When the next chunk may be made: the rate of a replay holds over all replicas and restarts.
    next_at timestamptz not null default now(),
    processed bigint not null default 0,
    created bigint not null default 0,
    -- How many of what was taken could not be made again, because the body is past its retention.
    skipped bigint not null default 0,
    succeeded bigint not null default 0,
    dead bigint not null default 0,
    cancelled bigint not null default 0,
    error text,
    created_at timestamptz not null default now(),
    finished_at timestamptz,
    constraint finished_replays_are_not_running check ((finished_at is null) = (state = 'running'))
);
create index replays_running on replays (id) where state = 'running';

-- The partitions of one day, of every table of history. Safe to call again, and from several replicas at once.
--
-- They are made apart and attached: `create table … partition of` would lock out everybody who reads the table, and wait
-- for those who do already with everybody else behind it.
create function create_day(day date) returns void language plpgsql as $$
declare
    first_id uuid := (lpad(to_hex((extract(epoch from day::timestamp) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;
    next_id uuid := (lpad(to_hex((extract(epoch from (day + 1)::timestamp) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;
    parent text;
    part text;
begin
    perform pg_advisory_xact_lock(hashtext('tidegate create_day'));
    foreach parent in array array['events', 'event_bodies', 'event_keys', 'settled_deliveries', 'attempts', 'rejections',
                                  'quarantine', 'source_counters', 'destination_counters'] loop
        part := parent || '_' || to_char(day, 'YYYYMMDD');
        continue when to_regclass(part) is not null;
        execute format('create table %I (like %I including all)', part, parent);
        if parent = 'event_keys' then
            execute format('alter table %I attach partition %I for values from (%L) to (%L)', parent, part, day, day + 1);
        elsif parent in ('source_counters', 'destination_counters') then
            execute format('alter table %I attach partition %I for values from (%L) to (%L)', parent, part,
                           day::timestamp at time zone 'UTC', (day + 1)::timestamp at time zone 'UTC');
        else
            execute format('alter table %I attach partition %I for values from (%L) to (%L)', parent, part, first_id, next_id);
        end if;
    end loop;
end
$$;
