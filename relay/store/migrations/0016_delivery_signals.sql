-- Cancelling and retrying by hand, with several replicas.

alter table pending_deliveries
    -- Which stay in this table it is: 0 of a delivery that intake or a replay has made, and else the transaction that made it
    -- pending again after it was settled. An attempt that was begun before ends only the stay that it was begun in.
    add column generation bigint not null default 0,
    -- When a caller asked to send it at once; null if none did, or an attempt was made since. The owner of its destination
    -- sends it next, even while the destination is left alone.
    add column expedited_at timestamptz;

-- Nearly always empty.
create index pending_deliveries_expedited on pending_deliveries (destination_id, expedited_at, id)
    where expedited_at is not null;

-- What was cancelled, for the engines of all replicas: each drops what it holds of it in memory. Written in the transaction
-- that cancels, one row for as many deliveries as that cancels. Every replica reads the new rows once; rows older than an hour
-- are deleted, because no replica holds anything that it read before.
create table delivery_signals (
    id bigint generated always as identity,
    -- The transaction that wrote it. Replicas read by it, because ids do not tell in which order transactions commit.
    written_by bigint not null default (pg_current_xact_id()::text::bigint),
    written_at timestamptz not null default now(),
    -- The destination and the delivery that was cancelled; or the replay, some or all of whose deliveries were.
    destination_id uuid,
    delivery_id uuid,
    replay_id uuid,
    primary key (written_by, id),
    constraint one_thing_is_cancelled check (
        (replay_id is null) = (delivery_id is not null) and (delivery_id is null) = (destination_id is null))
);
create index delivery_signals_by_age on delivery_signals (written_at);
