-- A delivery whose filter or order key could not be evaluated is made and held; one whose transform could not be evaluated
-- in time is tried a few times and then held. The relay decides the first again by itself, and both when their route is
-- changed.
alter table pending_deliveries
    -- Since when it is held; null if it is not, or was held before this column existed.
    add column held_at timestamptz,
    -- Whether its route is asked again before it is sent.
    add column undecided boolean not null default false,
    -- When the relay asks the route again by itself; null if only a change of the route can change the answer.
    add column decide_at timestamptz,
    add column decide_tries smallint not null default 0,
    -- How often in a row it was due and nothing was sent because of the relay, and why the last time.
    add column not_sent smallint not null default 0,
    add column not_sent_reason text,
    add constraint only_held_deliveries_are_undecided check (not undecided or held_reason is not null),
    add constraint only_undecided_deliveries_are_decided check (decide_at is null or undecided);

-- The texts are those that a relay of before wrote.
update pending_deliveries
set held_at = now(),
    undecided = held_reason like 'the filter could not%' or held_reason like 'its order key could not%',
    decide_at = case when held_reason like 'the filter could not%' then now() end
where held_reason is not null;

-- What the relay decides by itself, the next one first.
create index pending_deliveries_to_decide on pending_deliveries (decide_at) where decide_at is not null;
-- What a route has held, the oldest first.
create index pending_deliveries_held_by_route on pending_deliveries (route_id, held_at) where held_at is not null;
