-- A replay that is begun again and again at the same place without moving is stopped.
alter table replays
    -- How many times a chunk has been begun at one place without an end: neither finished nor given back.
    add column begun smallint not null default 0 check (begun >= 0),
    -- That place: the cursor then. If the cursor is another one now, the replay has moved and nothing was begun there.
    add column begun_after uuid,
    -- Until then no other replica begins the chunk; null while none is under way.
    add column begun_until timestamptz,
    -- The last error of the database that a chunk at that place ended with.
    add column begun_error text;

-- `failed`: stopped by the gateway, with the reason in `error`.
alter table replays
    drop constraint replays_state_check,
    add constraint replays_state_check check (state in ('running', 'completed', 'cancelled', 'failed'));
