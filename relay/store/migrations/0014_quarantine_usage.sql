-- How much a source with "on_failure": "quarantine" has kept of the requests that fail, in one hour: anybody can send those,
-- so that there is a limit. One row for each source that has ever kept one; it is begun anew by the first one of an hour. No
-- foreign key: what stores must not wait for a source that is being deleted.
create table quarantine_usage (
    source_id uuid primary key,
    -- The hour (UTC) that the counts are of.
    hour timestamptz not null,
    events bigint not null default 0,
    -- Of the bodies of these events.
    bytes bigint not null default 0,
    -- Requests beyond the limit: nothing is kept of them.
    rejected bigint not null default 0,
    -- The row of rejections that counts them, once there is one.
    rejection_id uuid
);
