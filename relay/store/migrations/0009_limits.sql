-- Which types of events a route takes, and how many events a customer may send.

-- The types of events that the route takes, tested before the filter; empty if it takes every event. An event without
-- a type is taken only if the list is empty.
alter table routes add column types text[] not null default '{}';
