-- Customers and tokens: who owns what, and who may do what.
--
-- From this file on, migrations are only added, and the relay of the version before keeps working on the new tables.

-- There can be several customers now. The API writes the rows. The default customer is never renamed: the relay knows
-- it by its id, and the URLs of its sources at the edge have no customer in them.
alter table customers
    add column updated_at timestamptz not null default now(),
    -- The most sources and destinations that the customer may have; null if there is no limit. Only what is created
    -- is checked, so a limit may be below what exists.
    add column max_sources integer check (max_sources >= 0),
    add column max_destinations integer check (max_destinations >= 0);

-- The tokens with which callers of the API authenticate. The API inserts and revokes them. The token of the setting
-- TIDEGATE_ADMIN_TOKEN has no row. A revoked token keeps its row, so that its name stays known.
create table tokens (
    id uuid primary key,
    -- The customer that the token is bound to; null if it acts for any customer.
    customer_id uuid references customers (id),
    created_at timestamptz not null default now(),
    -- When the token stops being accepted; null if it never does.
    expires_at timestamptz,
    -- When the token was revoked; null if it was not.
    revoked_at timestamptz,
    -- The minute in which the token was last accepted; null if it never was. The relay writes it up to some seconds
    -- later, outside of the request.
    last_used_at timestamptz,
    -- What an operator calls the token. Two tokens may have the same name.
    name text not null,
    -- The last four characters of the token, to tell tokens apart.
    hint text not null,
    -- What the token may do.
    scopes text[] not null constraint scopes_are_known check (
        cardinality(scopes) > 0 and scopes <@ array['read', 'bodies', 'write', 'replay', 'secrets', 'admin']),
    -- The SHA-256 of the token. A token has 256 random bits, so nobody finds it by trying what has this hash.
    hash bytea not null constraint token_is_unique unique check (octet_length(hash) = 32),
    constraint a_token_of_a_customer_administers_nothing check (customer_id is null or not 'admin' = any(scopes))
);
-- The tokens of a customer.
create index tokens_by_customer on tokens (customer_id) where customer_id is not null;
