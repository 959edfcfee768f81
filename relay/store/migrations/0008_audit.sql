-- The audit log: who changed what, and who read what they are not bound to. Each entry is written by the transaction
-- that makes the change. Entries are never changed. History, partitioned by id, and kept as long as metadata.
create table audit_entries (
    -- Created by the relay, by its clock.
    id uuid not null,
    at timestamptz not null default now(),
    -- The customer that owns the object, or that is the object; null if the object belongs to the deployment. It may be
    -- deleted.
    customer_id uuid,
    -- Who made the change: its kind, such as 'root', 'token' or 'relay', its id if it has one, and its name at that time.
    actor_kind text not null,
    actor_id text,
    actor_name text not null,
    -- The session with which the actor authenticated; null if it had none.
    session_id text,
    -- The id of the request that made the change; null for the relay itself.
    request_id text,
    -- What was done, such as 'destination.update'.
    action text not null,
    -- The object, by its id as the API shows it, and its name at that time; null if the action has no single object.
    object_id text,
    object_name text,
    -- The settings of the object before and after the change, without secrets; null if there were none.
    before jsonb,
    after jsonb,
    primary key (id)
) partition by range (id);
-- The entries of an object in the order of their ids: for lists, and for the entries that are written once an hour.
create index audit_entries_by_object on audit_entries (object_id, id);

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
                                  'destination_counters', 'audit_entries'] loop
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
