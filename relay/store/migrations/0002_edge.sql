-- What the edge has confirmed of each source, and when the relay compares it with what the edge holds.

alter table sources
    -- Of the sealed text that the edge wrote when it confirmed `edge_revision`; null if the edge gave none.
    add column edge_digest text,
    -- When the relay next reads back what the edge holds, if the edge has confirmed the newest revision.
    add column edge_check_at timestamptz not null default now();
create index sources_by_edge_check on sources (edge_check_at) where edge_revision = revision;

-- Sources that were deleted within the last week: the relay looks whether the edge still holds their tombstones, because
-- a write that was under way can land after the deletion.
create table deleted_sources (
    id uuid primary key,
    customer_id uuid not null references customers (id),
    name text not null,
    -- Of the tombstone at the edge; larger than that of any configuration that was put.
    revision bigint not null,
    deleted_at timestamptz not null default now(),
    edge_check_at timestamptz not null
);
create index deleted_sources_by_edge_check on deleted_sources (edge_check_at);
