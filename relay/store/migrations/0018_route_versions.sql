-- What a delivery was routed by is kept for as long as the delivery may still be sent.

-- Grows by one with every change of the transform.
alter table routes add column version integer not null default 1;

-- The versions that are not current any more: of transforms that were changed, and the last one of each route that was
-- deleted, be it alone or with its source or destination. Deleted when nothing that names them can be pending.
create table route_versions (
    route_id uuid not null,
    version integer not null,
    -- CEL; null sends the raw bytes.
    transform text,
    -- The source's name as the transform saw it.
    source_name text not null,
    -- What a delivery that fails meant for the later ones of its key.
    poison text not null,
    kept_at timestamptz not null default now(),
    primary key (route_id, version)
);
create index route_versions_by_age on route_versions (kept_at);

alter table pending_deliveries
    -- The version of its route that it was routed by; without a route it means nothing. A constant default, so that no row is
    -- written anew: all routes have version 1 now, and a row of a route that is gone already is held, because its transform
    -- is not known.
    add column route_version integer not null default 1,
    drop constraint held_by_is_known,
    -- Not validated: the values before were checked by a narrower constraint, and a validation reads the table under a lock.
    add constraint held_by_is_known check (held_by in (
        'filter', 'order_key', 'transform', 'url', 'body', 'attempt', 'route')) not valid;

-- The held deliveries of a replay, which are few or a fault.
create index pending_deliveries_held_of_replay on pending_deliveries (replay_id)
    where due_at = 'infinity' and replay_id is not null;

-- Whether no filter has approved a delivery that has ended: it is decided before it is sent again.
alter table settled_deliveries add column undecided boolean not null default false;
