-- The deleted sources and destinations of each customer. History is indexed by them, so a list of one customer is read
-- by the indexes of its own sources and destinations, present and deleted, and not among the rows of all customers.
-- Triggers fill the tables, so that relays of the version before do too. The relay deletes a row when the history of
-- the object has expired.

create table former_sources (
    id uuid primary key,
    customer_id uuid not null,
    deleted_at timestamptz not null default now()
);
create index former_sources_by_customer on former_sources (customer_id);
create index former_sources_by_age on former_sources (deleted_at);

create table former_destinations (
    id uuid primary key,
    customer_id uuid not null,
    deleted_at timestamptz not null default now()
);
create index former_destinations_by_customer on former_destinations (customer_id);
create index former_destinations_by_age on former_destinations (deleted_at);

create function remember_former_object() returns trigger language plpgsql as $$
begin
    execute format('insert into %I (id, customer_id) values ($1, $2) on conflict do nothing', 'former_' || tg_table_name)
        using old.id, old.customer_id;
    return null;
end
$$;
create trigger remember_former_source after delete on sources
    for each row execute function remember_former_object();
create trigger remember_former_destination after delete on destinations
    for each row execute function remember_former_object();

-- Those that were deleted before: every id in the history that is not among the present ones. Each step of the
-- recursion finds the next id in the indexes.
insert into former_sources (id, customer_id)
with recursive found (id) as (
    (select source_id from events order by source_id limit 1)
    union all
    select (select source_id from events where source_id > found.id order by source_id limit 1) from found
    where found.id is not null
)
select found.id, event.customer_id
from found cross join lateral (select customer_id from events where source_id = found.id limit 1) event
where not exists (select from sources where sources.id = found.id)
on conflict do nothing;

insert into former_destinations (id, customer_id)
with recursive found (id) as (
    (select destination_id from settled_deliveries order by destination_id limit 1)
    union all
    select (select destination_id from settled_deliveries where destination_id > found.id
            order by destination_id limit 1) from found
    where found.id is not null
)
select found.id, delivery.customer_id
from found
cross join lateral (select customer_id from settled_deliveries where destination_id = found.id limit 1) delivery
where not exists (select from destinations where destinations.id = found.id)
on conflict do nothing;
-- These have pending deliveries.
insert into former_destinations (id, customer_id)
select id, customer_id from deleted_destinations on conflict do nothing;
