-- What holds a delivery, so that those that are held can be counted and released by it.
alter table pending_deliveries
    -- Of a delivery that is held; of all others it means nothing.
    add column held_by text not null default 'transform' constraint held_by_is_known check (held_by in (
        'filter', 'order_key', 'transform', 'url', 'body', 'attempt'));

-- The texts are those that a relay of before wrote.
update pending_deliveries
set held_by = case when held_reason like 'its order key could not%' then 'order_key'
                     when undecided then 'filter'
                     when held_reason = 'the body of this event is no longer kept' then 'body'
                     else 'transform' end
where due_at = 'infinity';

-- Held deliveries, the oldest first. They are few or a fault, so that these indexes cost the others nothing.
create index pending_deliveries_held_of_destination on pending_deliveries (destination_id, held_by, held_at)
    where due_at = 'infinity';
create index pending_deliveries_held_of_route on pending_deliveries (route_id, held_by, held_at)
    where due_at = 'infinity';
create index pending_deliveries_held_of_source on pending_deliveries (source_id, held_by, held_at)
    where due_at = 'infinity';
create index pending_deliveries_held on pending_deliveries (customer_id, held_by, held_at)
    where due_at = 'infinity';

-- Which destinations have held deliveries, and since when: one operational event is stored for each row.
create table held_deliveries (
    destination_id uuid not null,
    held_by text not null,
    since timestamptz not null default now(),
    -- Whether the event has been stored.
    told boolean not null default false,
    primary key (destination_id, held_by)
);
