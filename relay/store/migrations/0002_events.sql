-- Events: what the intake stores of the messages of the queue. One transaction stores a batch of messages, and only
-- then the relay acknowledges them to the queue.

-- An event is one accepted webhook. History, partitioned by id.
create table events (
    -- Created by the edge, by its clock, before it sends the message to the queue.
    id uuid not null,
    customer_id uuid not null,
    source_id uuid not null,
    -- When the request arrived, by the edge's clock.
    received_at timestamptz not null,
    stored_at timestamptz not null default now(),
    -- The size of the body in bytes. It stays known when the body is no longer kept.
    body_size integer not null,
    -- How often the event arrived again as a copy. The intake counts.
    copies integer not null default 0,
    -- The event that holds the same key with another body; null if there is none.
    same_key_as uuid,
    -- The result of the verification. A release changes 'failed' to 'released'.
    verification text not null check (verification in ('verified', 'stale', 'unsigned', 'failed', 'released')),
    method text not null,
    -- The type and the id that the provider gave the event; null if the relay finds none in the request.
    type text,
    provider_event_id text,
    -- The query of the request's URL without the question mark; empty if there is none.
    query text not null,
    -- Why the verification of a quarantined event failed: a stable code, and a text for the operator. Null for an event
    -- that was never in quarantine.
    failure_cause text,
    failure_detail text,
    -- The headers of the request: a JSON list of pairs, in the order in which they arrived.
    headers jsonb not null,
    primary key (id),
    constraint refused_events_have_a_cause check ((verification in ('failed', 'released')) = (failure_cause is not null)),
    constraint a_cause_has_a_detail check ((failure_cause is null) = (failure_detail is null))
) partition by range (id);
-- The events of a source in the order of their ids: for lists and replays.
create index events_by_source on events (source_id, id);
-- The events with an id of the provider: for lists.
create index events_by_provider_event_id on events (provider_event_id) where provider_event_id is not null;
-- The events in quarantine, few among many, in the order of their ids: for lists, and for replays that release them.
create index events_in_quarantine on events (id) where verification = 'failed';

-- The bodies of events. A table of its own, because bodies have a shorter retention than events. History, partitioned
-- by the id of the event.
create table event_bodies (
    event_id uuid not null,
    -- The bytes as they arrived.
    body bytea not null,
    -- The id and the body of the first copy whose body differs. The intake writes them if the provider changes the body
    -- when it sends an event again; otherwise both are null.
    changed_copy_id uuid,
    changed_copy bytea,
    primary key (event_id),
    constraint a_changed_copy_has_an_id check ((changed_copy_id is null) = (changed_copy is null))
) partition by range (event_id);

-- The deduplication keys, each with the event that holds it. The intake inserts them; for an event in quarantine its
-- release does. An event whose key is already held is a copy, or an event of its own if its body differs. Such an event
-- holds a second key, which is derived from the first key and its body. History, partitioned by day: copies are
-- recognised for as many days as partitions are kept.
create table event_keys (
    source_id uuid not null,
    -- The event that holds the key.
    event_id uuid not null,
    -- The day (UTC) on which the event claimed the key.
    day date not null,
    -- A SHA-256 over the provider's id, and also over the body if the body is signed and the id is not.
    key bytea not null,
    -- The first 16 bytes of the SHA-256 of the body of that event, or of the query if the body is empty.
    body_hash bytea not null,
    primary key (source_id, key, day)
) partition by range (day);

-- The ids of copies, for the first hundred copies of an event. The edge has told these ids to the provider, so the API
-- finds the event by them. History, partitioned by the id of the copy.
create table event_copies (
    id uuid not null,
    -- The event that holds the key.
    event_id uuid not null,
    primary key (id)
) partition by range (id);

-- Counts of requests that were not stored as events, by source and cause. History, partitioned by id.
create table rejections (
    -- Derived from the message, so a message that is delivered again is the same row. The row that counts what a full
    -- quarantine does not keep has an id of the relay.
    id uuid not null,
    source_id uuid not null,
    -- How many requests the row counts.
    count bigint not null check (count >= 1),
    -- The size of the last of these bodies, in bytes.
    size bigint not null,
    -- The times of the first and the last of these requests, by the edge's clock.
    first_at timestamptz not null,
    last_at timestamptz not null,
    -- A stable code, and what was wrong with the last of these requests.
    cause text not null,
    detail text not null,
    -- The class of the last sender's address, for instance 'ipv4', or 'unknown'; never the address.
    remote text not null,
    primary key (id)
) partition by range (id);
-- The rejections of a source in the order of their ids: for lists.
create index rejections_by_source on rejections (source_id, id);

-- How much each source that quarantines has kept in the current hour. Anybody can send requests that fail verification,
-- so a source keeps a limited number of them in an hour. The intake locks and updates the row. There is one row for
-- each source that has kept such an event, and the first event of an hour resets it. No foreign key: the intake does
-- not wait for a source that is being deleted.
create table quarantine_usage (
    source_id uuid primary key,
    -- The hour (UTC) of the counts.
    hour timestamptz not null,
    events bigint not null default 0,
    -- The size of the bodies of these events.
    bytes bigint not null default 0,
    -- How many requests were beyond the limit. They are counted and not kept.
    rejected bigint not null default 0,
    -- The row of rejections that counts them; null if there is none.
    rejection_id uuid
);

-- Messages of the queue that could not be stored as events, byte for byte. The relay tries them again, and an operator
-- can release them. A released message stays for its retention. History, partitioned by id.
create table unreadable_messages (
    -- The time of the id is when the queue accepted the message, or when the relay stored it if the queue gives no
    -- plausible time. The random bits are a hash of the message and its ids in the queue, so a message that is delivered
    -- again is the same row.
    id uuid not null,
    -- The event that the message became; null if it is not released, or was no event.
    event_id uuid,
    stored_at timestamptz not null default now(),
    -- When the relay tries the message next; 'infinity' if only an operator can release it.
    next_try_at timestamptz not null,
    -- When the message was released; null if it waits.
    released_at timestamptz,
    -- How often the relay has tried to release the message.
    tries integer not null default 0,
    -- The tries that have begun since the last one that ended. The relay ended during each of them.
    unfinished_tries integer not null default 0,
    reason text not null constraint reason_is_known check (reason in (
        'not_decodable', 'unknown_version', 'answer_not_readable', 'leased_too_often', 'body_missing', 'secret_not_openable',
        'unknown_source', 'implausible_time', 'past_retention', 'refused_by_database')),
    -- The reason as a text for the operator. A try updates both.
    detail text not null,
    -- Empty if the message did not come from a queue.
    queue_id text not null,
    queue_message_id text not null,
    -- The queue's content type if `message` has the encoding of the queue's API; null if `message` is the message
    -- itself.
    content_type text,
    message bytea not null,
    -- The body of the event, if the relay has fetched it from object storage; null otherwise.
    body bytea,
    primary key (id),
    constraint an_event_is_of_a_released_message check (event_id is null or released_at is not null)
) partition by range (id);
-- The messages to be tried, next one first.
create index unreadable_messages_to_try on unreadable_messages (next_try_at, id) where released_at is null;
