-- Creates the partitions of one day (UTC), of every table of history, unless they exist. The relay calls it for the
-- coming days, and if a row needs a day that is missing. Several replicas may call it at the same time: they take
-- turns.
--
-- A partition is created as a table and then attached. `create table … partition of` would lock the parent against all
-- access, and wait for the transactions that use it while all later ones wait behind. `attach partition` stops neither
-- reads nor writes.
--
-- The relay finds partitions by their names, the table and the day, for instance events_20260109.
create function create_day(day date) returns void language plpgsql as $$
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
