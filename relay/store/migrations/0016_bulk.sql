-- Operations that change many deliveries, and the pause of a replay.

alter table operations
    -- When a caller cancelled the operation; null if none did. Its state in the table is then 'failed', which relays of
    -- the version before know.
    add column cancelled_at timestamptz,
    -- For an operation that changes deliveries: which deliveries it takes, with ids in place of names; null otherwise.
    add column selection jsonb,
    -- It takes the deliveries whose ids are in this range; null for other operations. It begins at the end of the range,
    -- and its cursor is the id before which it continues.
    add column from_id uuid,
    add column until_id uuid,
    -- How many of the processed deliveries it has changed; and how many it has left as they are, by the reason.
    add column changed bigint not null default 0,
    add column skipped_destination_deleted bigint not null default 0,
    add column skipped_body_not_kept bigint not null default 0,
    add column skipped_held_by_destination bigint not null default 0;

alter table replays
    -- When a caller paused the replay; null if it is not paused. While it is, `next_at` is a thousand years ahead, so
    -- that no relay begins a chunk, also none of the version before.
    add column paused_at timestamptz,
    -- For a paused replay: when the next chunk could have begun, for the rate after it is resumed; null otherwise.
    add column continue_at timestamptz,
    -- When a chunk was committed, or a caller changed the replay, the last time.
    add column updated_at timestamptz not null default now();
