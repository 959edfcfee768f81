-- Whether the query of the provider's request is appended to the destination's URL. A constant default, so that no row is
-- written anew.
alter table destinations add column append_query boolean not null default false;

-- Where a redirect points to: scheme, host, port and path. Null for every other answer, so that no row is written anew.
alter table attempts add column location text;
