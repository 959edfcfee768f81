-- Drawn anew with every change of sources, destinations and routes, in the transaction that raises the revision.
--
-- After a failover to a standby that lags, or a restore, the revision is lower than before, and the next change reaches a
-- number that replicas may already hold with another content. So replicas compare this for equality, and never the
-- revision for order.
alter table configuration add column identity uuid not null default gen_random_uuid();
