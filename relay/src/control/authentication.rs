//! Authentication: which actor a token stands for.
//!
//! A root token is compared in memory, so that it works while the database is away. Every other token is looked up for
//! each request, by its hash and with one statement. There is no cache: a revocation takes effect at once on every
//! replica.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use shared::secret::are_same;
use store::tokens::{self, Presented};
use time::Duration;

use super::Control;
use super::actor::{Actor, Owner, Who};
use super::error::Error;
use super::scope::Scopes;
use super::token_form::{hash, is_token};
use super::wrong_tokens::WrongTokens;

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
    if let Some(wait) = with(&control.wrong_tokens, |wrong| wrong.wait(from, &hash, Instant::now())) {
        return Err(Error::TooManyWrongTokens(wait));
    }
    let presented = if is_token(token) { tokens::presented(&control.pool, &hash).await? } else { None };
    let Some(presented) = presented.filter(counts) else {
        with(&control.wrong_tokens, |wrong| {
            wrong.refused(&hash);
            wrong.wrong(from, Instant::now());
        });
        return Err(Error::Unauthenticated);
    };
    with(&control.wrong_tokens, |wrong| wrong.accepted(hash, Instant::now()));
    if is_another_minute(&presented) {
        control.last_use.note(presented.id, presented.now);
    }
    Ok(actor(presented))
}

/// Whether a token still counts: it is neither revoked nor expired.
fn counts(token: &Presented) -> bool {
    token.revoked_at.is_none() && token.expires_at.is_none_or(|expires_at| expires_at > token.now)
}

/// Whether the stored minute of the last use is older than a minute.
fn is_another_minute(token: &Presented) -> bool {
    token.last_used_at.is_none_or(|last| token.now - last >= Duration::MINUTE)
}

fn actor(token: Presented) -> Actor {
    let Presented { id, name, customer_id, customer_name, scopes, expires_at, .. } = token;
    let who = Who::Token { id, name, expires_at };
    let owner = customer_id.map(|id| Owner { id, name: customer_name.unwrap_or_default() });
    Actor::of_token(who, Scopes::of_names(&scopes), owner)
}

fn with<T>(wrong: &Mutex<WrongTokens>, act: impl FnOnce(&mut WrongTokens) -> T) -> T {
    act(&mut wrong.lock().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use shared::id::{CustomerId, TokenId};
    use time::OffsetDateTime;

    use super::*;
    use crate::control::scope::Scope;

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
        let used = |seconds| Presented { last_used_at: Some(NOW - Duration::seconds(seconds)), ..presented() };
        assert!(is_another_minute(&presented()) && is_another_minute(&used(60)));
        assert!(!is_another_minute(&used(59)));
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
}
