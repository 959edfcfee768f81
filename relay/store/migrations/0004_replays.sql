-- A replay makes deliveries of stored events again, in chunks. The API inserts and cancels replays. The relay updates
-- them with each chunk, and counts their deliveries in them.
create table replays (
    id uuid primary key,
    customer_id uuid not null references customers (id),
    -- The destination that gets the deliveries; null if they go to the original ones.
    destination_id uuid references destinations (id) on delete set null,
    -- 'failed': the relay has stopped the replay, because one chunk failed again and again.
    state text not null check (state in ('running', 'completed', 'cancelled', 'failed')),
    -- The first bound of the replay: it takes no event that was stored later, and no delivery that was settled later.
    created_at timestamptz not null default now(),
    finished_at timestamptz,
    -- The second bound: the replay takes only ids below this one.
    until_id uuid not null,
    -- The id up to which the replay has come; null before the first chunk. Ids are those of events, or with `state` in
    -- the filter those of deliveries.
    cursor_id uuid,
    -- When the next chunk may begin. So the rate of the replay holds across replicas and restarts.
    next_at timestamptz not null default now(),

    -- How many events or deliveries match. While `counting`, the number that has been found.
    matched bigint not null,
    -- How many the replay has taken; and of these, how many have no body any more, so no delivery was made.
    processed bigint not null default 0,
    skipped bigint not null default 0,
    -- How many deliveries the replay has made; and how many of them have ended, by state. The transaction that ends a
    -- delivery adds to them, and a manual retry subtracts.
    created bigint not null default 0,
    succeeded bigint not null default 0,
    dead bigint not null default 0,
    cancelled bigint not null default 0,
    -- Whether the matches are still being counted, in pieces in the background.
    counting boolean not null,
    -- The id up to which the matches have been counted; null before the first piece.
    count_after uuid,

    -- How often a chunk has been begun at one place and was not committed, because it failed or the relay ended. After
    -- five times the replay is 'failed'.
    begun smallint not null default 0 check (begun >= 0),
    -- The cursor at that place. If `cursor_id` is another one, `begun` counts as 0.
    begun_after uuid,
    -- The end of the reservation of the chunk; null if it is not reserved. No other replica begins it before.
    begun_until timestamptz,
    -- The last error of the database, or the last panic, that a chunk at that place ended with; null if there is none.
    begun_error text,

    -- The rate limit: so many deliveries in each period. Both are null if there is no limit.
    rate_limit integer check (rate_limit > 0),
    rate_per text check (rate_per in ('second', 'minute', 'hour')),
    -- Why the replay has failed or was cancelled, as the API shows it; null otherwise.
    error text,
    -- The filter, with ids in place of names.
    filter jsonb not null,
    constraint finished_replays_are_not_running check ((finished_at is null) = (state = 'running')),
    constraint a_rate_has_a_period check ((rate_limit is null) = (rate_per is null))
);
-- The running replays, and those that are still being counted.
create index replays_running on replays (id) where state = 'running';
-- The replays to a destination that is being deleted.
create index replays_by_destination on replays (destination_id) where destination_id is not null;
