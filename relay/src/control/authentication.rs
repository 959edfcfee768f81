//! Authentication: which actor a token or a session stands for.
//!
//! A root token is compared in memory, so that it works while the database is away. Every other token, and every
//! session with its token, is looked up for each request, by its hash and with one statement. There is no cache: a
//! revocation and a sign-out take effect at once on every replica.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use model::session::MadeOf;
use shared::secret::are_same;
use shared::source::Secret;
use store::sessions;
use store::tokens::{self, Presented};
use time::{Duration, OffsetDateTime};

use super::Control;
use super::actor::{Actor, Owner, Session, Who};
use super::await_tokens::{self, Grant};
use super::error::Error;
use super::scope::{Scope, Scopes};
use super::token_form::{Hash, hash, is_session, is_token, root_proof};
use super::wrong_tokens::WrongTokens;
use crate::config::Group;
use crate::last_use::Used;

/// The actor that this token stands for. `from` is the address of the caller.
///
/// # Errors
/// Returns [`Error::Unauthenticated`] if the token is unknown, expired or revoked, [`Error::TooManyWrongTokens`] if the
/// address has sent too many such tokens, or an error if the query fails.
pub async fn authenticate(control: &Control, token: &str, from: IpAddr) -> Result<Actor, Error> {
    // All of them are compared, so that the time says nothing about which one is similar.
    let roots = control.config.admin_tokens.iter();
    if roots.fold(false, |is_root, root| is_root | are_same(token, root.reveal())) {
        return Ok(Actor::root());
    }
    let hash = hash(token);
    check_wait(control, from, &hash)?;
    let presented = if is_token(token) { tokens::presented(&control.pool, &hash).await? } else { None };
    let Some(presented) = presented.filter(counts) else { return Err(wrong(control, from, &hash)) };
    with(&control.wrong_tokens, |wrong| wrong.accepted(hash, Instant::now()));
    if is_another_minute(presented.last_used_at, presented.now) {
        control.last_use.note(Used::Token(presented.id), presented.now);
    }
    Ok(actor(presented))
}

/// The actor that the session with this secret stands for. `from` is the address of the caller.
///
/// # Errors Returns [`Error::Unauthenticated`] if the session is unknown or has ended, [`Error::TooManyWrongTokens`] if
/// the address has sent too many wrong tokens or sessions, or an error if the query fails.
pub async fn authenticate_session(control: &Control, session: &str, from: IpAddr) -> Result<Actor, Error> {
    let hash = hash(session);
    check_wait(control, from, &hash)?;
    let presented = if is_session(session) { sessions::presented(&control.pool, &hash).await? } else { None };
    let counts = |presented: &sessions::Presented| {
        let issuer = control.config.oidc.as_ref().map(|oidc| oidc.issuer.as_str());
        session_counts(presented) && is_configured(presented, session, &control.config.admin_tokens, issuer)
    };
    let Some(presented) = presented.filter(counts) else { return Err(wrong(control, from, &hash)) };
    with(&control.wrong_tokens, |wrong| wrong.accepted(hash, Instant::now()));
    if is_another_minute(presented.last_used_at, presented.now) {
        control.last_use.note(Used::Session(presented.id), presented.now);
    }
    // An operator who looks for unused tokens has to see that this one is used, through its session.
    if let Some(token) = presented.token_id
        && is_another_minute(presented.token_last_used_at, presented.now)
    {
        control.last_use.note(Used::Token(token), presented.now);
    }
    let groups = control.config.oidc.as_ref().map(|oidc| oidc.groups.as_slice()).unwrap_or_default();
    Ok(session_actor(presented, groups))
}

/// What this await token allows. `from` is the address of the caller.
///
/// # Errors
/// Returns [`Error::Unauthenticated`] if it is no await token or counts no more, [`Error::TooManyWrongTokens`] if the
/// address has sent too many wrong tokens, or an error if the query fails.
pub async fn authenticate_await(control: &Control, token: &str, from: IpAddr) -> Result<Grant, Error> {
    let hash = hash(token);
    check_wait(control, from, &hash)?;
    let opened = await_tokens::open(control, token);
    let counts = |grant: &Grant| grant.counts(OffsetDateTime::now_utc(), &control.config.admin_tokens);
    let Some(grant) = opened.filter(counts) else { return Err(wrong(control, from, &hash)) };
    if !still_counts(control, &grant).await? {
        return Err(wrong(control, from, &hash));
    }
    with(&control.wrong_tokens, |wrong| wrong.accepted(hash, Instant::now()));
    Ok(grant)
}

/// Whether the token with which an await token was made still counts, and its customer still exists.
///
/// # Errors
/// Returns an error if the query fails.
async fn still_counts(control: &Control, grant: &Grant) -> Result<bool, Error> {
    Ok(store::jobs::ended(&control.pool, &[(grant.customer, grant.maker_token())]).await?.is_empty())
}

/// Notes that a session was made, so that its browser need not wait because of wrong tokens from its address.
pub(super) fn expect(control: &Control, hash: Hash) {
    with(&control.wrong_tokens, |wrong| wrong.accepted(hash, Instant::now()));
}

/// Refuses a caller whose address has sent too many wrong tokens.
fn check_wait(control: &Control, from: IpAddr, hash: &Hash) -> Result<(), Error> {
    let wait = with(&control.wrong_tokens, |wrong| wrong.wait(from, hash, Instant::now()));
    wait.map_or(Ok(()), |wait| Err(Error::TooManyWrongTokens(wait)))
}

/// Notes that an address has sent a wrong token.
fn wrong(control: &Control, from: IpAddr, hash: &Hash) -> Error {
    with(&control.wrong_tokens, |wrong| {
        wrong.refused(hash);
        wrong.wrong(from, Instant::now());
    });
    Error::Unauthenticated
}

/// Whether a token still counts: it is neither revoked nor expired.
fn counts(token: &Presented) -> bool {
    token.revoked_at.is_none() && token.expires_at.is_none_or(|expires_at| expires_at > token.now)
}

/// Whether a session still counts: neither it nor its token has ended.
fn session_counts(session: &sessions::Presented) -> bool {
    session.ended_at.is_none()
        && session.expires_at > session.now
        && session.token_revoked_at.is_none()
        && session.token_expires_at.is_none_or(|expires_at| expires_at > session.now)
}

/// Whether what the session was made of is still configured. That of a token is a row, which the look-up has read.
fn is_configured(session: &sessions::Presented, secret: &str, roots: &[Secret], issuer: Option<&str>) -> bool {
    match session.made_of {
        MadeOf::Token => true,
        MadeOf::Root => session.root_proof.as_deref().is_some_and(|proof| {
            roots.iter().fold(false, |is_known, root| is_known | (root_proof(secret, root.reveal()) == proof))
        }),
        MadeOf::OpenIdConnect => issuer
            .is_some_and(|issuer| session.subject.strip_prefix(issuer).is_some_and(|subject| subject.starts_with(' '))),
    }
}

/// Whether the stored minute of the last use is older than a minute.
fn is_another_minute(last_used_at: Option<OffsetDateTime>, now: OffsetDateTime) -> bool {
    last_used_at.is_none_or(|last| now - last >= Duration::MINUTE)
}

fn actor(token: Presented) -> Actor {
    let Presented { id, name, customer_id, customer_name, scopes, expires_at, .. } = token;
    let who = Who::Token { id, name, expires_at };
    let owner = customer_id.map(|id| Owner { id, name: customer_name.unwrap_or_default() });
    Actor::of_token(who, Scopes::of_names(&scopes), owner)
}

/// The actor of a session. A user of the OpenID Connect provider has no scope that no group has any more.
fn session_actor(session: sessions::Presented, groups: &[Group]) -> Actor {
    let owner = session.customer_id.map(|id| Owner { id, name: session.customer_name.unwrap_or_default() });
    let scopes = match session.made_of {
        // Every scope, also those that later versions add.
        MadeOf::Root => Scopes::ALL,
        MadeOf::Token => Scopes::of_names(&session.scopes),
        MadeOf::OpenIdConnect => {
            let given = |scope: &Scope| groups.iter().any(|group| group.scopes.contains(scope));
            Scopes::of_names(&session.scopes).iter().filter(given).collect()
        }
    };
    let who = Who::Session(Session {
        id: session.id,
        made_of: session.made_of,
        subject: session.subject,
        token_id: session.token_id,
        name: session.name,
        expires_at: session.expires_at,
    });
    Actor::of_token(who, scopes, owner)
}

fn with<T>(wrong: &Mutex<WrongTokens>, act: impl FnOnce(&mut WrongTokens) -> T) -> T {
    act(&mut wrong.lock().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use shared::id::{CustomerId, SessionId, TokenId};

    use super::*;

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn presented() -> Presented {
        Presented {
            id: TokenId::mint(1, [1; 10]),
            name: "ci".to_owned(),
            customer_id: None,
            customer_name: None,
            scopes: vec!["read".to_owned()],
            expires_at: None,
            revoked_at: None,
            last_used_at: None,
            now: NOW,
        }
    }

    #[test]
    fn a_token_counts_until_it_expires_or_is_revoked() {
        let expires = |seconds| Presented { expires_at: Some(NOW + Duration::seconds(seconds)), ..presented() };
        assert!(counts(&presented()) && counts(&expires(1)));
        assert!(!counts(&expires(0)) && !counts(&expires(-1)));
        assert!(!counts(&Presented { revoked_at: Some(NOW - Duration::DAY), ..presented() }));
    }

    #[test]
    fn the_last_use_is_written_once_in_a_minute() {
        let used = |seconds| is_another_minute(Some(NOW - Duration::seconds(seconds)), NOW);
        assert!(is_another_minute(None, NOW) && used(60) && !used(59));
    }

    #[test]
    fn an_actor_has_the_scopes_and_the_customer_of_its_token() {
        let bound = Presented {
            customer_id: Some(CustomerId::mint(1, [7; 10])),
            customer_name: Some("acme".to_owned()),
            ..presented()
        };
        let actor = actor(bound);
        assert_eq!(actor.customer().ok(), Some(CustomerId::mint(1, [7; 10])));
        assert!(actor.require(Scope::Read).is_ok() && actor.require(Scope::Write).is_err());
    }

    fn session() -> sessions::Presented {
        sessions::Presented {
            id: SessionId::mint(1, [1; 10]),
            made_of: MadeOf::Token,
            subject: "tok_1".to_owned(),
            token_id: Some(TokenId::mint(1, [1; 10])),
            name: Some("ci".to_owned()),
            customer_id: None,
            customer_name: None,
            scopes: vec!["read".to_owned()],
            root_proof: None,
            expires_at: NOW + Duration::SECOND,
            ended_at: None,
            last_used_at: None,
            token_expires_at: None,
            token_revoked_at: None,
            token_last_used_at: None,
            now: NOW,
        }
    }

    #[test]
    fn a_session_counts_until_it_or_its_token_ends() {
        assert!(session_counts(&session()));
        for ended in [
            sessions::Presented { expires_at: NOW, ..session() },
            sessions::Presented { ended_at: Some(NOW), ..session() },
            sessions::Presented { token_expires_at: Some(NOW), ..session() },
            sessions::Presented { token_revoked_at: Some(NOW - Duration::DAY), ..session() },
        ] {
            assert!(!session_counts(&ended), "{ended:?}");
        }
    }

    #[test]
    fn a_session_of_a_root_token_counts_while_that_token_is_configured() {
        let proof = root_proof("the secret", "the second root token").to_vec();
        let session = sessions::Presented { made_of: MadeOf::Root, root_proof: Some(proof), ..session() };
        let [first, second] = ["the first root token", "the second root token"].map(Secret::new);
        assert!(is_configured(&session, "the secret", &[first.clone(), second.clone()], None));
        assert!(!is_configured(&session, "the secret", &[first], None));
        assert!(!is_configured(&session, "another secret", std::slice::from_ref(&second), None));
        let without = sessions::Presented { root_proof: None, ..session };
        assert!(!is_configured(&without, "the secret", &[second], None));
    }

    #[test]
    fn a_session_of_a_user_counts_while_the_issuer_is_configured() {
        let subject = "https://login.example.com ada".to_owned();
        let session = sessions::Presented { made_of: MadeOf::OpenIdConnect, subject, ..session() };
        assert!(is_configured(&session, "", &[], Some("https://login.example.com")));
        for other in [None, Some("https://login.example.co"), Some("https://login.example.com/"), Some("")] {
            assert!(!is_configured(&session, "", &[], other), "{other:?}");
        }
    }
}
