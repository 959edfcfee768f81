-- Destinations that were deleted and whose pending deliveries are still to be cancelled. The row of the destination itself
-- is gone by then, with its routes: its name is free, and nothing is made for it or sent to it any more.

create table deleted_destinations (
    id uuid primary key,
    customer_id uuid not null references customers (id),
    deleted_at timestamptz not null default now(),
    -- How many deliveries have been cancelled so far.
    cancelled bigint not null default 0,
    -- When the last chunk was cancelled: the deletion that has waited longest is the next.
    chunk_at timestamptz not null default now(),
    -- The last delivery of that chunk, in the order of `pending_deliveries_by_lane`; null at the beginning. Dead rows before
    -- it are not read again.
    after_lane smallint,
    after_due_at timestamptz,
    after_id uuid,
    constraint a_place_is_whole check ((after_lane is null) = (after_due_at is null) and (after_lane is null) = (after_id is null))
);

-- What was stored for a destination while an earlier version of the relay deleted it.
insert into deleted_destinations (id, customer_id)
select distinct on (destination_id) destination_id, customer_id from pending_deliveries pending
where not exists (select from destinations where destinations.id = pending.destination_id)
order by destination_id;

-- The replays that deliver to a destination, when it is deleted.
create index replays_by_destination on replays (destination_id) where destination_id is not null;
