-- Messages of the queue that could not be stored as what they are, kept byte for byte. The relay tries them again by
-- itself, and an operator can release them; a message that has been released stays, with what became of it.

create table unreadable_messages (
    -- UUIDv7 whose random bits are a hash of the queue's id and the message's: the same message is the same row, however
    -- often it is handed out. Its time is that at which the queue accepted the message.
    id uuid not null,
    -- Empty if it did not come out of a queue.
    queue_id text not null,
    queue_message_id text not null,
    -- The queue's content type if `message` is as the queue's API gave it; null if `message` is the message itself.
    content_type text,
    reason text not null constraint reason_is_known check (reason in (
        'not_decodable', 'unknown_version', 'answer_not_readable', 'leased_too_often', 'body_missing', 'secret_not_openable',
        'unknown_source', 'implausible_time', 'past_retention', 'refused_by_database')),
    detail text not null,
    message bytea not null,
    -- The body, if it was in object storage and has been fetched.
    body bytea,
    stored_at timestamptz not null default now(),
    -- How often the relay has tried to release it.
    tries integer not null default 0,
    -- Tries that have begun since the last one that ended: each of them ended with the relay.
    unfinished_tries integer not null default 0,
    -- When it is tried next; 'infinity' if only an operator can release it.
    next_try_at timestamptz not null,
    released_at timestamptz,
    -- The event it has become; null if it was no event.
    event_id uuid,
    primary key (id),
    constraint an_event_is_of_a_released_message check (event_id is null or released_at is not null)
) partition by range (id);
create index unreadable_messages_to_try on unreadable_messages (next_try_at, id) where released_at is null;

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
    foreach parent in array array['events', 'event_bodies', 'event_keys', 'settled_deliveries', 'attempts', 'rejections',
                                  'unreadable_messages', 'source_counters', 'destination_counters'] loop
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
    for part in select inhrelid::regclass::text from pg_inherits where inhparent = 'quarantine'::regclass loop
        perform create_day(to_date(right(part, 8), 'YYYYMMDD'));
    end loop;
end
$$;
insert into unreadable_messages (id, queue_id, queue_message_id, reason, detail, message, stored_at, next_try_at)
select id, '', queue_message_id, 'not_decodable', reason, message, quarantined_at, now() from quarantine;
drop table quarantine;
