//! Who a caller is and what it may do.

use serde::Serialize;
use shared::id::{CustomerId, SessionId, TokenId};
use utoipa::ToSchema;

use crate::control::actor::{Actor, Who};
use crate::control::schema;
use crate::control::scope::Scope;
use crate::control::time::Timestamp;

/// The caller, as its token or session says.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownActor {
    /// The kind of caller.
    pub kind: ActorKind,
    /// The id of the token, or of the token of which the session was made; null if there is none.
    #[schema(value_type = Option<schema::TokenId>, required = true)]
    pub token_id: Option<TokenId>,
    /// The id of the session; null for a token.
    #[schema(value_type = Option<schema::SessionId>, required = true)]
    pub session_id: Option<SessionId>,
    /// What the token or the user is called; null for a root token.
    #[schema(required = true)]
    pub name: Option<String>,
    /// What the caller may do.
    pub scopes: Vec<Scope>,
    /// The name of the customer that the caller is bound to; null if it acts for any customer.
    #[schema(required = true)]
    pub customer: Option<String>,
    /// The id of the customer that the caller is bound to; null if it acts for any customer.
    #[schema(value_type = Option<schema::CustomerId>, required = true)]
    pub customer_id: Option<CustomerId>,
    /// When the token or the session stops being accepted; null if it does not expire.
    #[schema(required = true)]
    pub expires_at: Option<Timestamp>,
}

/// The kind of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    /// The bearer of a root token.
    Root,
    /// The bearer of a token that was created.
    Token,
    /// A browser after a sign-in.
    Session,
}

/// Says who the caller is. Every actor may know that, so no scope is needed.
#[must_use]
pub fn whoami(actor: &Actor) -> ShownActor {
    let (kind, token_id, session_id, name, expires_at) = match actor.who() {
        Who::Root => (ActorKind::Root, None, None, None, None),
        Who::Token { id, name, expires_at } => (ActorKind::Token, Some(*id), None, Some(name.clone()), *expires_at),
        Who::Session(session) => {
            let name = session.name.clone();
            (ActorKind::Session, session.token_id, Some(session.id), name, Some(session.expires_at))
        }
    };
    let customer = actor.bound_to();
    ShownActor {
        kind,
        token_id,
        session_id,
        name,
        scopes: actor.scopes().iter().collect(),
        customer: customer.map(|owner| owner.name.clone()),
        customer_id: customer.map(|owner| owner.id),
        expires_at: expires_at.map(Timestamp),
    }
}
