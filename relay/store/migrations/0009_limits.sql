-- Which types of events a route takes, and how many events a customer may send.

-- The types of events that the route takes, tested before the filter; empty if it takes every event. An event without
-- a type is taken only if the list is empty.
alter table routes add column types text[] not null default '{}';

-- The most events that a customer may send in a minute. The relays count what they have stored; over the limit they let
-- the edge refuse the events of the customer for a while. What the edge has acknowledged is stored in any case.
alter table customers
    -- Null if there is no limit.
    add column max_events_per_minute integer check (max_events_per_minute > 0),
    -- Until when the edge refuses the events of the customer; null if it was never over its limit. A time that has
    -- passed means nothing.
    add column refused_until timestamptz,
    -- When the limit was last changed. Only what is stored from then on counts against it.
    add column limited_since timestamptz not null default now(),
    -- How many events of that minute had been stored before the change.
    add column events_before_limit bigint not null default 0;
-- The customers that have a limit.
create index customers_by_limit on customers (id) where max_events_per_minute is not null;

-- How many of the stored events do not count against the limit of the customer, because their verification failed, or
-- because they had waited in the queue and say nothing about the rate of this minute.
alter table source_counters add column unrated bigint not null default 0;

-- When a relay has last looked for customers that are over their limit, so that one of several relays does it.
create table limit_checks (
    only_row boolean primary key default true check (only_row),
    checked_at timestamptz not null
);
insert into limit_checks (checked_at) values (now());
