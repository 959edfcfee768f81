-- What an owner of a destination has learned of it is recalled by its next owner, before that sends anything.
--
-- The times in a report are those of the relay that wrote it; ahead_us says how far the database's clock was ahead of it.

alter table destinations
    -- When the URL led to another scheme, host or port for the last time: what was learned before says nothing of it.
    add column moved_at timestamptz not null default now();
update destinations set moved_at = created_at;

alter table destination_health
    -- The last change of the destination's address or state that the report knows of, by the database's clock. Null in a report
    -- that an earlier version of the relay was the first to write: nothing of it but the rate is recalled.
    add column learned_since timestamptz,
    -- Pauses after 429 since the last success.
    add column back_offs integer not null default 0,
    -- How often the breaker has opened without being closed for long.
    add column openings integer not null default 0,
    -- While less is sent than the limits allow: below it the concurrency doubles with each round of successes.
    add column slow_start_below double precision,
    -- The last send on the even grid of the rate. A rate slower than one in five seconds has it written before the send.
    add column paced_at timestamptz,
    -- The epoch whose owner has sent nothing after this report.
    add column last_of_epoch bigint,
    add column ahead_us bigint not null default 0;
update destination_health set learned_since = reported_at;
