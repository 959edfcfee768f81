-- The attempts of the present schedule that a delivery is not charged for: its destination answered 429 and did not say
-- for how long it wants less. A constant default, so that no row is written anew.
alter table pending_deliveries add column throttled smallint not null default 0;
