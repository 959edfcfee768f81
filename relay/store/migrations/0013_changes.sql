-- Changes: what the database has stored, in an order that only grows, so that a reader that has read up to a position
-- continues there and misses nothing.
--
-- Triggers write the rows, in the transaction of the change, so that no statement of any version of the relay can
-- change an event or a delivery without them. They run once per statement and write one row for each new state, not
-- one for each event or delivery: many thousand deliveries end in a second.

-- A row says what one statement has changed. History, partitioned by day, and kept for a few days only.
--
-- A reader reads the rows of all transactions before the oldest one that is still running, in the order of
-- (written_by, number). No row can appear before its position any more: a transaction with a smaller number has ended,
-- and a transaction that begins later gets a larger number.
create table changes (
    -- The transaction that wrote the row, and the order of the rows of one transaction.
    written_by bigint not null default (pg_current_xact_id()::text::bigint),
    number bigint not null,
    -- The day (UTC) on which the transaction began.
    day date not null default current_date,
    changed_at timestamptz not null default now(),
    kind text not null constraint kind_is_known check (kind in (
        'event_stored', 'event_state_changed', 'attempt_made', 'delivery_state_changed')),
    -- The new state of the events or deliveries; null if the kind has none.
    state text,
    -- The ids of the events, attempts or deliveries.
    ids uuid[] not null,
    primary key (written_by, number, day),
    constraint a_changed_state_is_named check ((kind in ('event_state_changed', 'delivery_state_changed')) = (state is not null))
) partition by range (day);
-- Ids are mostly random bits: an attempt to compress them costs time and saves nothing.
alter table changes alter column ids set storage external;

-- Numbers the rows. No identity column: PostgreSQL 15 and 16 have none in partitions.
create sequence changes_number owned by changes.number;
alter table changes alter column number set default nextval('changes_number');

-- Identifies the history of this database: its cluster, the database in it and its timeline. It differs after a dump
-- was restored elsewhere, after a point in time was restored, and after a standby was promoted. The numbers of
-- transactions before and after that say nothing about each other.
-- Servers of some hosts refuse to name their cluster or their timeline. On these the rest has to do: there a database that
-- was restored to an earlier time under its old name is not recognised.
create function database_history() returns text language plpgsql stable as $$
declare
    cluster text;
    timeline text;
begin
    begin
        cluster := (select system_identifier::text from pg_control_system());
    exception when others then null;
    end;
    begin
        timeline := left(pg_walfile_name(pg_current_wal_lsn()), 8);
    exception when others then null;
    end;
    return concat_ws('.', cluster, (select oid from pg_database where datname = current_database()), timeline);
end
$$;

-- What positions refer to. There is one row.
create table change_history (
    only_row boolean primary key default true check (only_row),
    -- The history that `changes` belongs to.
    database text not null,
    -- A random number that is a part of every position, so that a position of another history is recognised. The relay
    -- changes it, and empties `changes`, when it finds another history of the database.
    history integer not null default floor(random() * 2147483647)::integer,
    -- The first transaction whose rows are all kept. Rows of earlier transactions may have been dropped.
    kept_from bigint not null
);
insert into change_history (database, kept_from)
values (database_history(), pg_current_xact_id()::text::bigint);

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
                                  'destination_counters', 'audit_entries', 'changes'] loop
        part := parent || '_' || to_char(day, 'YYYYMMDD');
        continue when to_regclass(part) is not null;
        execute format('create table %I (like %I including all)', part, parent);
        if parent in ('event_keys', 'changes') then
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

-- Partitions from now on: the relays of the version before write to `changes` as soon as this is committed. The day
-- before is for transactions that began before midnight.
do $$
declare
    today date := (now() at time zone 'UTC')::date;
begin
    for ahead in -1..3 loop
        execute format('create table %I partition of changes for values from (%L) to (%L)',
                       'changes_' || to_char(today + ahead, 'YYYYMMDD'), today + ahead, today + ahead + 1);
    end loop;
end
$$;

create function note_stored_events() returns trigger language plpgsql as $$
begin
    insert into changes (kind, ids) select 'event_stored', array_agg(id) from stored having count(*) > 0;
    return null;
end
$$;

-- A count of copies is no state.
create function note_changed_events() returns trigger language plpgsql as $$
begin
    insert into changes (kind, state, ids)
    select 'event_state_changed', changed.state, array_agg(changed.id)
    from (
        select later.id, case when later.verification is distinct from earlier.verification then later.verification
                              else 'body_erased' end as state
        from later join earlier on earlier.id = later.id
        where later.verification is distinct from earlier.verification
           or later.body_erased_at is distinct from earlier.body_erased_at
    ) changed
    group by changed.state;
    return null;
end
$$;

create function note_attempts() returns trigger language plpgsql as $$
begin
    insert into changes (kind, ids) select 'attempt_made', array_agg(id) from made having count(*) > 0;
    return null;
end
$$;

create function note_new_pending_deliveries() returns trigger language plpgsql as $$
begin
    insert into changes (kind, state, ids)
    select 'delivery_state_changed', case when held_reason is null then 'pending' else 'held' end, array_agg(id)
    from added group by 2;
    return null;
end
$$;

create function note_changed_pending_deliveries() returns trigger language plpgsql as $$
begin
    insert into changes (kind, state, ids)
    select 'delivery_state_changed', case when later.held_reason is null then 'pending' else 'held' end,
           array_agg(later.id)
    from later join earlier on earlier.id = later.id
    where (later.held_reason is null) <> (earlier.held_reason is null)
    group by 2;
    return null;
end
$$;

create function note_settled_deliveries() returns trigger language plpgsql as $$
begin
    insert into changes (kind, state, ids)
    select 'delivery_state_changed', state, array_agg(id) from settled group by state;
    return null;
end
$$;

create trigger note_stored_events after insert on events
    referencing new table as stored for each statement execute function note_stored_events();
create trigger note_changed_events after update on events
    referencing old table as earlier new table as later for each statement execute function note_changed_events();
create trigger note_attempts after insert on attempts
    referencing new table as made for each statement execute function note_attempts();
create trigger note_new_pending_deliveries after insert on pending_deliveries
    referencing new table as added for each statement execute function note_new_pending_deliveries();
create trigger note_changed_pending_deliveries after update on pending_deliveries
    referencing old table as earlier new table as later
    for each statement execute function note_changed_pending_deliveries();
create trigger note_settled_deliveries after insert on settled_deliveries
    referencing new table as settled for each statement execute function note_settled_deliveries();
