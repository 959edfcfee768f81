-- Sessions: with which browsers authenticate after a sign-in.
--
-- A session of a token counts only as long as its token does: the statement that looks it up reads both rows. The relay
-- inserts and ends sessions, and deletes a row some time after it has expired.
create table sessions (
    id uuid primary key,
    -- The token that the session was made of; null if it was made of something else.
    token_id uuid references tokens (id) on delete cascade,
    -- The customer that the session is bound to, which is that of its token; null if it acts for any customer.
    customer_id uuid references customers (id) on delete cascade,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    -- When the session was ended before it expired; null if it was not.
    ended_at timestamptz,
    -- The minute in which the session was last accepted; null if it never was. The relay writes it up to some seconds
    -- later, outside of the request.
    last_used_at timestamptz,
    -- Which cookie carries the session. A session of one kind is never accepted in the place of another.
    kind text not null default 'dashboard' constraint session_kind_is_known check (kind in ('dashboard', 'portal')),
    made_of text not null constraint made_of_is_known check (made_of in ('root', 'token', 'openid_connect')),
    -- Who signed in: `root`, the id of the token, or the issuer and the subject of the user with a space between them.
    -- All sessions with the same made_of and subject can be ended at once.
    subject text not null,
    -- What the token or the user is called; null for a root token.
    name text,
    scopes text[] not null constraint session_scopes_are_known check (
        cardinality(scopes) > 0 and scopes <@ array['read', 'bodies', 'write', 'replay', 'secrets', 'admin']),
    -- The SHA-256 of the session's secret, which has 256 random bits.
    hash bytea not null constraint session_is_unique unique check (octet_length(hash) = 32),
    -- The SHA-256 of the session's secret and the root token of which it was made. The relay compares it with its root
    -- tokens. The root token cannot be guessed from it without the secret, which is not stored.
    root_proof bytea check (octet_length(root_proof) = 32),
    constraint a_session_expires_within_a_day check (expires_at <= created_at + interval '24 hours'),
    constraint a_session_of_a_token_has_one check ((made_of = 'token') = (token_id is not null)),
    constraint a_session_of_a_root_token_proves_it check ((made_of = 'root') = (root_proof is not null))
);
-- The sessions of one subject, newest first.
create index sessions_by_subject on sessions (made_of, subject, id);
-- The sessions of a token.
create index sessions_by_token on sessions (token_id) where token_id is not null;
-- The sessions of a customer.
create index sessions_by_customer on sessions (customer_id) where customer_id is not null;
-- The sessions that have expired.
create index sessions_by_expiry on sessions (expires_at);
