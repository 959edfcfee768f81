//! Sessions: with which browsers authenticate after a sign-in. The secret of a session goes into a cookie and is shown
//! nowhere else; only its hash is stored.
//!
//! A session has the scopes and the customer of what it was made of, and counts no longer than that does.

use std::time::Duration;

use model::session::MadeOf;
use serde::Serialize;
use serde_json::json;
use shared::id::{CustomerId, SessionId, TokenId};
use shared::source::Secret;
use store::Constraint;
use store::audit::Author;
use store::sessions::{self, New, SessionRow, Subject};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::actor::Who;
use super::error::{Conflict, Forbidden, Noun, conflict_of};
use super::page::{Page, PageRequest};
use super::record::{self, Action, Object};
use super::scope::{Scope, Scopes};
use super::time::Timestamp;
use super::{Actor, Control, Error, authentication, schema, token_form};
use crate::mint;

/// For how long a session counts, at most.
pub(crate) const LIFETIME: Duration = Duration::from_secs(12 * 3_600);

/// The most sessions of one token, of the root tokens, or of one user. A further one ends the oldest, unless all of
/// them were made within the last ten minutes: then it is refused.
pub(crate) const MAX_SESSIONS: i64 = 100;

/// A session.
#[derive(Debug, Serialize, ToSchema)]
pub struct Session {
    /// The id of the session.
    #[schema(value_type = schema::SessionId)]
    pub id: SessionId,
    /// With what the caller signed in.
    pub made_of: MadeOf,
    /// The id of the token of which the session was made; null if it was made of something else.
    #[schema(value_type = Option<schema::TokenId>, required = true)]
    pub token_id: Option<TokenId>,
    /// What the token or the user is called; null for a root token.
    #[schema(required = true)]
    pub name: Option<String>,
    /// What the session may do.
    pub scopes: Vec<Scope>,
    /// The name of the customer that the session is bound to; null if it acts for any customer.
    #[schema(required = true)]
    pub customer: Option<String>,
    /// The id of the customer that the session is bound to; null if it acts for any customer.
    #[schema(value_type = Option<schema::CustomerId>, required = true)]
    pub customer_id: Option<CustomerId>,
    /// Whether this is the session of the request.
    pub current: bool,
    /// When the session stops being accepted, if it does not end before.
    pub expires_at: Timestamp,
    /// When the session was ended before it expired; null if it was not.
    #[schema(required = true)]
    pub ended_at: Option<Timestamp>,
    /// The minute in which the session was last accepted; null if it never was. A use is shown some seconds later.
    #[schema(required = true)]
    pub last_used_at: Option<Timestamp>,
    /// When the session was created.
    pub created_at: Timestamp,
}

/// How many sessions a call has ended.
#[derive(Debug, Serialize, ToSchema)]
pub struct EndedSessions {
    /// The number of sessions that were accepted until now.
    pub ended: u64,
}

/// A session that was made, with its secret.
#[derive(Debug)]
pub struct Made {
    pub session: Session,
    /// What the cookie holds. It cannot be shown again.
    pub secret: Secret,
}

/// Makes a session of the token with which the caller has authenticated, which is `token`.
///
/// # Errors
/// Returns an error if the caller has authenticated with a session, or if a query fails.
pub async fn create_session(control: &Control, actor: &Actor, token: &str) -> Result<Made, Error> {
    let secret = token_form::session_text(mint::random());
    let subject = subject(actor);
    let scopes = names(actor.scopes());
    let new = NewSession {
        secret: &secret,
        subject: &subject,
        token_id: None,
        name: None,
        customer: actor.bound_to().map(|owner| owner.id),
        scopes: &scopes,
        root_proof: None,
        until: None,
    };
    let proof;
    let new = match actor.who() {
        Who::Root => {
            proof = token_form::root_proof(&secret, token);
            NewSession { root_proof: Some(&proof), ..new }
        }
        Who::Token { id, name, expires_at } => {
            NewSession { token_id: Some(*id), name: Some(name), until: *expires_at, ..new }
        }
        Who::Session(_) => return Err(Error::Forbidden(Forbidden::OfASession)),
    };
    make(control, new, actor.author()).await
}

/// What a session is made of.
pub(super) struct NewSession<'a> {
    pub(super) secret: &'a str,
    pub(super) subject: &'a Subject,
    pub(super) token_id: Option<TokenId>,
    pub(super) name: Option<&'a str>,
    pub(super) customer: Option<CustomerId>,
    pub(super) scopes: &'a [String],
    pub(super) root_proof: Option<&'a [u8]>,
    pub(super) until: Option<OffsetDateTime>,
}

/// Stores a session.
///
/// # Errors
/// Returns an error if a query fails.
pub(super) async fn make(control: &Control, new: NewSession<'_>, author: Author) -> Result<Made, Error> {
    let id = SessionId::from_uuid(mint::uuid());
    let object = Object::of_deployment(id).owned_by(new.customer);
    let after = json!({ "made_of": new.subject.made_of, "subject": new.subject.text, "scopes": new.scopes });
    let entry = record::entry_of(author, Action::SessionCreate, object).with(None, Some(after), []);
    let session = New {
        id,
        subject: new.subject,
        token_id: new.token_id,
        name: new.name,
        customer: new.customer,
        scopes: new.scopes,
        hash: &token_form::hash(new.secret),
        root_proof: new.root_proof,
        lifetime_s: LIFETIME.as_secs_f64(),
        until: new.until,
    };
    let inserted = sessions::insert(&control.pool, &session, MAX_SESSIONS, &entry).await;
    inserted.map_err(conflict_of(&[
        (Constraint::Reference, Conflict::ChangedMeanwhile),
        (Constraint::SessionLimit, Conflict::TooManySessions),
    ]))?;
    authentication::expect(control, token_form::hash(new.secret));
    let session = Session { current: true, ..find(control, id, None, None).await? };
    Ok(Made { session, secret: Secret::new(new.secret) })
}

/// A page of the sessions that count, newest first: all of them if the caller may administer, and otherwise those of
/// its own token or user.
///
/// # Errors
/// Returns an error if the limit or the cursor is invalid, or if a query fails.
pub async fn list_sessions(control: &Control, actor: &Actor, page: &PageRequest) -> Result<Page<Session>, Error> {
    let window = page.window()?;
    let rows = sessions::page(&control.pool, visible(actor).as_ref(), window.cursor, window.fetch()).await?;
    let current = current(actor);
    Ok(window.page(rows, |row| row.id.uuid(), |row| view(row, current)))
}

/// Ends a session: from now on no relay accepts it. A session that has ended stays as it is. A caller that may
/// administer ends any session, and every other caller those of its own token or user.
///
/// # Errors
/// Returns an error if there is no such session, or if a query fails.
pub async fn end_session(control: &Control, actor: &Actor, id: &str) -> Result<Session, Error> {
    let id: SessionId = id.parse().map_err(|_| Error::NotFound(Noun::Session))?;
    let subject = visible(actor);
    // Whether there is one that the caller may see.
    let session = find(control, id, subject.as_ref(), None).await?;
    let object = Object::of_deployment(id).owned_by(session.customer_id);
    let entry = record::entry(actor, Action::SessionEnd, object);
    sessions::end(&control.pool, id, subject.as_ref(), &entry).await?;
    find(control, id, subject.as_ref(), current(actor)).await
}

/// Ends the session of the caller.
///
/// # Errors
/// Returns a conflict if the caller has authenticated with a token, or an error if the query fails.
pub async fn end_this_session(control: &Control, actor: &Actor) -> Result<(), Error> {
    let id = current(actor).ok_or(Error::Conflict(Conflict::NoSession))?;
    let object = Object::of_deployment(id).owned_by(actor.bound_to().map(|owner| owner.id));
    sessions::end(&control.pool, id, None, &record::entry(actor, Action::SessionEnd, object)).await?;
    Ok(())
}

/// Ends all sessions of the caller's own token or user.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn end_all_sessions(control: &Control, actor: &Actor) -> Result<EndedSessions, Error> {
    let subject = subject(actor);
    let record = |ended: u64| {
        let object = Object::many(actor.bound_to().map(|owner| owner.id));
        let after = json!({ "subject": subject.text, "ended": ended });
        record::entry(actor, Action::SessionsEnd, object).with(None, Some(after), [])
    };
    let ended = sessions::end_all(&control.pool, &subject, record).await?;
    Ok(EndedSessions { ended })
}

/// Who the caller is, as a session of it says.
fn subject(actor: &Actor) -> Subject {
    match actor.who() {
        Who::Root => Subject { made_of: MadeOf::Root, text: "root".to_owned() },
        Who::Token { id, .. } => Subject { made_of: MadeOf::Token, text: id.to_string() },
        Who::Session(session) => Subject { made_of: session.made_of, text: session.subject.clone() },
    }
}

/// The subject whose sessions the caller sees and ends; `None` for all of them.
fn visible(actor: &Actor) -> Option<Subject> {
    let sees_all = actor.require(Scope::Admin).is_ok() && actor.require_unbound().is_ok();
    (!sees_all).then(|| subject(actor))
}

fn current(actor: &Actor) -> Option<SessionId> {
    match actor.who() {
        Who::Session(session) => Some(session.id),
        Who::Root | Who::Token { .. } => None,
    }
}

/// The names of scopes, as they are stored.
pub(super) fn names(scopes: Scopes) -> Vec<String> {
    scopes.iter().map(|scope| scope.name().to_owned()).collect()
}

async fn find(
    control: &Control,
    id: SessionId,
    subject: Option<&Subject>,
    current: Option<SessionId>,
) -> Result<Session, Error> {
    let row = sessions::find(&control.pool, id, subject).await?;
    row.map(|row| view(row, current)).ok_or(Error::NotFound(Noun::Session))
}

fn view(row: SessionRow, current: Option<SessionId>) -> Session {
    Session {
        id: row.id,
        made_of: row.made_of,
        token_id: row.token_id,
        name: row.name,
        scopes: Scopes::of_names(&row.scopes).iter().collect(),
        customer: row.customer_name,
        customer_id: row.customer_id,
        current: current == Some(row.id),
        expires_at: Timestamp(row.expires_at),
        ended_at: row.ended_at.map(Timestamp),
        last_used_at: row.last_used_at.map(Timestamp),
        created_at: Timestamp(row.created_at),
    }
}

#[cfg(test)]
mod tests {
    use super::super::actor::{self, Owner};
    use super::*;

    fn session(scopes: &[Scope], bound_to: Option<Owner>) -> Actor {
        let session = actor::Session {
            id: SessionId::mint(1, [1; 10]),
            made_of: MadeOf::Token,
            subject: "tok_1".to_owned(),
            token_id: Some(TokenId::mint(1, [1; 10])),
            name: Some("ci".to_owned()),
            expires_at: OffsetDateTime::UNIX_EPOCH,
        };
        Actor::of_token(Who::Session(session), scopes.iter().copied().collect(), bound_to)
    }

    #[test]
    fn a_caller_that_may_administer_sees_all_sessions_and_every_other_one_those_of_its_subject() {
        let own = Some(Subject { made_of: MadeOf::Token, text: "tok_1".to_owned() });
        assert_eq!(visible(&Actor::root()), None);
        assert_eq!(visible(&session(&[Scope::Admin], None)), None);
        assert_eq!(visible(&session(&[Scope::Read, Scope::Write], None)), own);
        let owner = Owner { id: CustomerId::mint(1, [2; 10]), name: "acme".to_owned() };
        assert_eq!(visible(&session(&[Scope::Admin], Some(owner))), own);
    }

    #[test]
    fn a_session_and_its_token_have_the_same_subject() {
        let id = TokenId::mint(1, [1; 10]);
        let token = Who::Token { id, name: "ci".to_owned(), expires_at: None };
        let token = subject(&Actor::of_token(token, Scopes::default(), None));
        assert_eq!(token, Subject { made_of: MadeOf::Token, text: id.to_string() });
        assert_eq!(subject(&Actor::root()), Subject { made_of: MadeOf::Root, text: "root".to_owned() });
        assert_eq!(current(&Actor::root()), None);
    }
}
