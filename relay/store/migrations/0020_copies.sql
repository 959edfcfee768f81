-- What is known of the copies of an event.

-- The first 16 bytes of the SHA-256 of the body of the event that holds the key; null for keys that are older than this column.
alter table event_keys add column body_hash bytea;

-- The event that holds the same key with another body, if there is one.
alter table events add column same_key_as uuid;

-- The first copy whose body is another one, of a provider that changes the body when it sends an event again.
alter table event_bodies
    add column changed_copy_id uuid,
    add column changed_copy bytea,
    add constraint a_changed_copy_has_an_id check ((changed_copy_id is null) = (changed_copy is null));

-- The ids that copies were answered with, each with the event that holds the key: the first hundred or so of each event.
create table event_copies (
    id uuid not null,
    event_id uuid not null,
    primary key (id)
) partition by range (id);

-- The partitions of one day, of every table of history. Safe to call again, and from several replicas at once.
--
-- They are made apart and attached: `create table … partition of` would lock out everybody who reads the table, and wait
-- for those who do already with everybody else behind it.
create or replace function create_day(day date) returns void language plpgsql as $$
declare
    first_id uuid := (lpad(to_hex((extract(epoch from day::timestamp) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;
    next_id uuid := (lpad(to_hex((extract(epoch from (day + 1)::timestamp) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;
    parent text;
    part text;
begin
    perform pg_advisory_xact_lock(hashtext('tidegate create_day'));
    foreach parent in array array['events', 'event_bodies', 'event_keys', 'event_copies', 'settled_deliveries',
                                  'attempts', 'rejections', 'unreadable_messages', 'source_counters',
                                  'destination_counters'] loop
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

do $$
declare
    part text;
begin
    for part in select inhrelid::regclass::text from pg_inherits where inhparent = 'events'::regclass loop
        perform create_day(to_date(right(part, 8), 'YYYYMMDD'));
    end loop;
end
$$;
