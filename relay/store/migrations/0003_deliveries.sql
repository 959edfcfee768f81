-- Deliveries: from the route to the outcome.

-- Deliveries that have not ended. The rows are narrow and have no bodies. The intake, replays and manual retries insert
-- them. The transaction that settles, cancels or expires a delivery moves its row to settled_deliveries. No foreign
-- keys: the deletion of a destination or of a route does not wait for its deliveries.
create table pending_deliveries (
    -- Created by the relay, by its clock.
    id uuid primary key,
    customer_id uuid not null,
    destination_id uuid not null,
    event_id uuid not null,
    source_id uuid not null,
    -- The route that made the delivery; null if a replay sends to a destination that no route leads to.
    route_id uuid,
    -- The replay that made the delivery; null if the intake made it.
    replay_id uuid,
    -- When the next attempt is due; 'infinity' if the delivery is held. Written by the settlement of each attempt, and
    -- by everything that releases or retries deliveries.
    due_at timestamptz not null,
    -- 0 for a delivery that the intake or a replay made. A manual retry of an ended delivery writes the number of its
    -- transaction. A settlement names the generation that its attempt belongs to, and does nothing in another one.
    generation bigint not null default 0,
    -- The version of the route that the delivery was routed with. It has no meaning without a route.
    route_version integer not null default 1,
    -- The attempts so far.
    attempts smallint not null default 0,
    -- The attempts that were made before the current schedule began. A manual retry of an ended delivery begins a
    -- schedule.
    schedule_start smallint not null default 0,
    -- 0 fresh, 1 retry, 2 replay. The engine reads each lane separately, so a million rows of one lane do not hide the
    -- others.
    lane smallint not null generated always as
        (case when replay_id is not null then 2 when attempts > 0 then 1 else 0 end) stored,
    -- The attempts of the current schedule that are not charged, because the destination answered 429 without
    -- Retry-After.
    throttled smallint not null default 0,
    -- How often in a row the delivery was due and the relay could not make the request.
    not_sent smallint not null default 0,
    -- How often the relay has begun to evaluate the route of the undecided delivery again, counted up to 20. The wait
    -- before the next time doubles with it.
    decide_tries smallint not null default 0,
    -- Whether the filter or the order key could not be evaluated. The route is evaluated before the delivery is sent.
    undecided boolean not null default false,
    -- The kind of the cause that holds the delivery (`HeldBy`). It has no meaning if the delivery is not held.
    held_by text not null default 'transform' constraint held_by_is_known check (held_by in (
        'filter', 'order_key', 'transform', 'url', 'body', 'attempt', 'route')),
    -- The hash of the order key and its route; null if the delivery has no order.
    order_key bigint,
    -- Since when the delivery is held; null if it is not.
    held_at timestamptz,
    -- When the relay evaluates the route of an undecided delivery next; null if only a change of the route can help.
    decide_at timestamptz,
    -- When a caller of the API asked to send the delivery at once; null if none did, or an attempt that began later is
    -- settled. The owner sends the delivery before all others, also during the back-off of its destination.
    expedited_at timestamptz,
    -- The end of the wait before the first attempt; null if the schedule of the destination begins without a wait, or
    -- if the delivery was released or retried manually. A delivery that becomes the next of its order key, or whose
    -- route is evaluated again, is not due before.
    not_before timestamptz,
    -- Why the delivery is held, as the API shows it; null if it is not.
    held_reason text,
    -- Why the relay could not make the request, the last time; null if `not_sent` is 0.
    not_sent_reason text,
    constraint held_deliveries_are_never_due check ((held_reason is not null) = (due_at = 'infinity')),
    constraint only_held_deliveries_are_undecided check (not undecided or held_reason is not null),
    constraint only_undecided_deliveries_are_decided check (decide_at is null or undecided)
) with (
    -- Every delivery passes through this table, so it has many dead rows for its size, and a read of a lane steps over
    -- the dead entries of its index. Vacuum therefore runs after a fixed number of dead rows, whatever the size of the
    -- table, and without pauses. Analyze runs after a fixed number of changes, for the same reason.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000
);
-- The first due deliveries of a lane; the first due time of each lane, for the scan; the pending deliveries of a
-- destination, for its health and for the chunks of its deletion.
create index pending_deliveries_by_lane on pending_deliveries (destination_id, lane, due_at, id);
-- The earlier deliveries of an order key, and the next one of it.
create index pending_deliveries_by_order_key on pending_deliveries (destination_id, order_key, id)
    where order_key is not null;
-- The pending deliveries of an event: for lists and replays. The oldest event that a pending delivery needs: for the
-- retention.
create index pending_deliveries_by_event on pending_deliveries (event_id);
-- The pending deliveries of a replay: for its cancellation.
create index pending_deliveries_by_replay on pending_deliveries (replay_id, id) where replay_id is not null;
-- The expedited deliveries of each destination, the first request first. Nearly always empty.
create index pending_deliveries_expedited on pending_deliveries (destination_id, expedited_at, id)
    where expedited_at is not null;
-- The undecided deliveries that the relay evaluates again, next one first.
create index pending_deliveries_to_decide on pending_deliveries (decide_at) where decide_at is not null;
-- The deliveries that were held before their route was changed, oldest first.
create index pending_deliveries_of_changed_routes on pending_deliveries (route_id, held_at) where held_at is not null;
-- The held deliveries with one kind of cause, oldest first, for a release: all of a customer, or those of a
-- destination, a route or a source. The index by destination also serves their counts and the statements that fill
-- held_deliveries. Few rows are held unless something is wrong, so these indexes cost the other rows nothing.
create index pending_deliveries_held_of_customer on pending_deliveries (customer_id, held_by, held_at)
    where due_at = 'infinity';
create index pending_deliveries_held_of_destination on pending_deliveries (destination_id, held_by, held_at)
    where due_at = 'infinity';
create index pending_deliveries_held_of_route on pending_deliveries (route_id, held_by, held_at)
    where due_at = 'infinity';
create index pending_deliveries_held_of_source on pending_deliveries (source_id, held_by, held_at)
    where due_at = 'infinity';
-- The number of held deliveries of a replay.
create index pending_deliveries_held_of_replay on pending_deliveries (replay_id)
    where due_at = 'infinity' and replay_id is not null;

-- Which destinations have deliveries that are held by a kind of cause. One operational event is stored for each row.
-- The relay inserts a row when holding begins and deletes it when holding has ended.
create table held_deliveries (
    destination_id uuid not null,
    -- As pending_deliveries.held_by.
    held_by text not null,
    -- When the relay found that holding had begun.
    since timestamptz not null default now(),
    -- Whether the operational event is stored.
    told boolean not null default false,
    primary key (destination_id, held_by)
);

-- Signals: cancelled deliveries, for the engines of all replicas, which drop them from their memory. The transaction
-- that cancels inserts one row, for one delivery or for all deliveries of a replay that it cancels. Every replica reads
-- new rows once. The relay deletes rows after an hour, because by then no replica holds anything that it read before.
create table delivery_signals (
    id bigint generated always as identity,
    -- The transaction that wrote the row. Replicas read by it, because ids do not say in which order transactions
    -- commit.
    written_by bigint not null default (pg_current_xact_id()::text::bigint),
    written_at timestamptz not null default now(),
    -- Either a delivery and its destination, or a replay.
    destination_id uuid,
    delivery_id uuid,
    replay_id uuid,
    primary key (written_by, id),
    constraint one_thing_is_cancelled check (
        (replay_id is null) = (delivery_id is not null) and (delivery_id is null) = (destination_id is null))
);
-- The rows that are old enough to be deleted.
create index delivery_signals_by_age on delivery_signals (written_at);

-- The leases of the replicas. A replica renews its row every 3 seconds, for 10 seconds. A shard is free if its owner
-- has no row or an expired one.
create table replicas (
    id uuid primary key,
    -- The end of the lease.
    expires_at timestamptz not null,
    started_at timestamptz not null default now(),
    -- Whether the replica shuts down. It then takes no shards, and releases its shards as soon as nothing of them is in
    -- flight.
    leaving boolean not null default false
) with (
    -- Every renewal updates the row. Half of each page is free, so the new version of a row stays in its page and no
    -- index changes.
    fillfactor = 50
);

-- The owners of the shards. There are always 256 rows.
create table shards (
    shard smallint primary key check (shard between 0 and 255),
    -- The replica that holds the lease of the shard; null if the shard is free.
    owner uuid,
    -- Numbers the owners: whoever takes the shard adds one. Settlements name the epoch, so a replica that has lost the
    -- shard writes nothing.
    epoch bigint not null default 0
) with (
    -- When replicas start or end, many rows change at once. Their new versions stay in their page, and no index
    -- changes.
    fillfactor = 70
);
insert into shards (shard) select generate_series(0, 255);

-- What the engine knows of a destination: for the API, and for the next owner. The owner of the shard writes the row
-- when its content changes and every few seconds while it sends, but not for each attempt. There is no row before the
-- first report. Times without another comment are those of the clock of the relay that wrote the row. Counts are those
-- at `reported_at`.
create table destination_health (
    destination_id uuid primary key references destinations (id) on delete cascade,
    -- The epoch of the owner that wrote the row. An earlier owner does not replace the row of a later one.
    epoch bigint not null,
    -- Equal to `epoch` if that owner sends nothing after this report. Otherwise null, and the next owner waits for one
    -- interval of the rate limit before its first send.
    last_of_epoch bigint,
    reported_at timestamptz not null,
    -- How far the database's clock was ahead of the writer's clock, in microseconds.
    ahead_us bigint not null,
    -- The last change of the destination's address or state that the writer knew, by the database's clock. If there has
    -- been a later change, only `paced_at` is used.
    learned_since timestamptz not null,
    -- The last send on the grid of the rate limit; null without a rate limit. If the rate is slower than one delivery
    -- in five seconds, the row is written before the send.
    paced_at timestamptz,
    -- The end of the back-off; null if there is none.
    back_off_until timestamptz,
    -- The back-offs after a 429 since the last success.
    back_offs integer not null,
    -- How often the breaker has opened without being closed for long.
    openings integer not null,
    breaker text not null check (breaker in ('closed', 'open', 'half_open')),
    -- Since when the breaker is in its state; null if it has never been in another.
    breaker_since timestamptz,
    -- When the next probe is due; null if the breaker is not open.
    probe_at timestamptz,
    -- Why the destination is reduced, and since when; null if it is not.
    reduced_by text,
    reduced_since timestamptz,
    -- The part of the rate limit that is used, up to 1.
    rate_factor double precision not null,
    -- Below this concurrency, the concurrency doubles with each round of successes; null if the destination is not
    -- reduced.
    slow_start_below double precision,
    -- The number of attempts that may be in flight, and the number that are.
    concurrency integer not null,
    in_flight integer not null,
    -- The deliveries in memory, by lane.
    waiting_fresh integer not null,
    waiting_retry integer not null,
    waiting_replay integer not null,
    -- Attempts and failures of the last 30 to 60 seconds.
    recent_attempts integer not null,
    recent_failures integer not null,
    -- The recent latency in milliseconds; null if there is none.
    latency_ms integer,
    -- The failures since the last success, and the time of the first of them; 0 and null if there are none. After five
    -- days and ten failures the relay disables the destination.
    failures bigint not null,
    failing_since timestamptz
) with (
    -- The row is updated every few seconds. Half of each page is free, so the new version of a row stays in its page
    -- and no index changes.
    fillfactor = 50
);

-- Deliveries that have ended. A manual retry moves a row back to pending_deliveries. History, partitioned by id, so by
-- the day on which the delivery was made.
create table settled_deliveries (
    -- These seven columns are those of the pending delivery.
    id uuid not null,
    customer_id uuid not null,
    destination_id uuid not null,
    event_id uuid not null,
    source_id uuid not null,
    route_id uuid,
    replay_id uuid,
    settled_at timestamptz not null default now(),
    attempts smallint not null,
    schedule_start smallint not null,
    -- Whether no filter has approved the delivery. Its route is evaluated before it is retried or replayed.
    undecided boolean not null default false,
    state text not null check (state in ('succeeded', 'dead', 'cancelled')),
    -- The error class of the last attempt, or 'expired' if the retention ended the delivery; null if it succeeded or
    -- was cancelled. Lists and replays filter by it.
    error text,
    -- Why the delivery is dead or cancelled, as the API shows it; null if it succeeded, or if its replay was cancelled.
    reason text,
    primary key (id),
    constraint dead_deliveries_have_a_reason check (state <> 'dead' or reason is not null)
) partition by range (id);
-- The deliveries to a destination in the order of their ids: for lists and replays.
create index settled_deliveries_by_destination on settled_deliveries (destination_id, id);
-- The deliveries of an event: for lists, and for replays, which take only the last delivery of an event to a
-- destination.
create index settled_deliveries_by_event on settled_deliveries (event_id);
-- The deliveries that are dead or cancelled, few among many, in the order of their ids: for lists and replays.
create index settled_deliveries_not_succeeded on settled_deliveries (state, id) where state <> 'succeeded';

-- An attempt is one HTTP request of a delivery. The settlement of the attempt inserts it. History, partitioned by id.
create table attempts (
    -- Created by the relay, by its clock.
    id uuid not null,
    delivery_id uuid not null,
    destination_id uuid not null,
    event_id uuid not null,
    -- By the relay's clock.
    started_at timestamptz not null,
    -- From the start of the request to the head of the response or to the failure, in milliseconds.
    latency_ms integer not null check (latency_ms >= 0),
    -- The attempts of a delivery are numbered from 1.
    number smallint not null check (number >= 1),
    -- The HTTP status; null if there was no response.
    status smallint,
    -- The error class, and a text for the operator; null if the attempt succeeded.
    error text,
    detail text,
    -- The target of a redirect: scheme, host, port and path; null for every other response.
    location text,
    -- The beginning of the body of the response; null if it has none.
    response_excerpt text,
    primary key (id)
) partition by range (id);
-- The attempts of a delivery.
create index attempts_by_delivery on attempts (delivery_id, number);

-- Deleted destinations whose pending deliveries are still to be cancelled. The transaction that deletes the destination
-- inserts the row. The relay then cancels the deliveries in chunks, and deletes the row when none is left.
create table deleted_destinations (
    -- The id of the destination.
    id uuid primary key,
    customer_id uuid not null references customers (id),
    deleted_at timestamptz not null default now(),
    -- When the last chunk was cancelled. The deletion that has waited longest is the next.
    chunk_at timestamptz not null default now(),
    -- The number of deliveries that have been cancelled.
    cancelled bigint not null default 0,
    -- The last delivery of that chunk, in the order of pending_deliveries_by_lane; null at the beginning. The next
    -- chunk begins after it, so it does not step over the dead rows of the chunks before.
    after_lane smallint,
    after_due_at timestamptz,
    after_id uuid,
    constraint a_place_is_whole check (
        (after_lane is null) = (after_due_at is null) and (after_lane is null) = (after_id is null))
);
