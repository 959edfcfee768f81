-- Counts per minute, for the stats of the API. The transactions that store events and settle attempts add to them, so
-- the stats read a few rows and do not count history. A row counts at least one request or attempt, so the tables are a
-- small part of history. Both are history, partitioned by the day of the minute.

create table source_counters (
    source_id uuid not null,
    minute timestamptz not null,
    -- One of eight rows of a minute, by the connection that writes. Transactions that store at the same time add to
    -- different rows and do not wait for each other's commit.
    part smallint not null,
    -- Events.
    stored bigint not null,
    -- Copies.
    copies bigint not null,
    -- Requests that the edge refused or a full quarantine did not keep.
    rejected bigint not null,
    primary key (source_id, minute, part)
) partition by range (minute);

create table destination_counters (
    destination_id uuid not null,
    minute timestamptz not null,
    -- Deliveries that have ended.
    succeeded bigint not null,
    dead bigint not null,
    failed_attempts bigint not null,
    -- All attempts, by their latency. An attempt counts in the first column that it fits.
    within_50_ms bigint not null,
    within_250_ms bigint not null,
    within_1_s bigint not null,
    within_5_s bigint not null,
    within_30_s bigint not null,
    longer bigint not null,
    primary key (destination_id, minute)
) partition by range (minute);
