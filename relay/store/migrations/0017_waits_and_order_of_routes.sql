alter table pending_deliveries
    -- Until when a new delivery waits for its first attempt, if its destination's retry policy begins with a wait; null if
    -- not. When it becomes the next one of its order key, or is decided, it is due no sooner.
    add column not_before timestamptz;

-- An order key belongs to its route: the hash of the key alone was the same for all routes to a destination. What is stored
-- by then is hashed anew, so that nothing overtakes it (`route::of_route` computes the same). A relay of before that still
-- runs does not free what waits behind a delivery that it holds in memory; that is read again after ten minutes.
update pending_deliveries
set order_key = ('x' || encode(substring(sha256(uuid_send(route_id) || int8send(order_key)) from 1 for 8), 'hex'))::bit(64)::bigint
where order_key is not null and route_id is not null;
