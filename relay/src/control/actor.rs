//! The actor: every function of the control layer takes an [`Actor`].

use model::session::MadeOf;
use shared::id::{CustomerId, SessionId, TokenId};
use store::audit::Author;
use time::OffsetDateTime;

use super::claimed::ClaimedKey;
use super::error::{Error, Forbidden};
use super::field_error::FieldError;
use super::scope::{Scope, Scopes};
use crate::callers::Caller;

/// The caller of the control layer: who it is, what it may do, and for which customer it acts.
///
/// The fields are private, so that an actor can only come from [`super::authentication`], which checks a token, and
/// from [`super::acting`], which checks for whom the actor may act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    who: Who,
    scopes: Scopes,
    bound_to: Option<Owner>,
    acts_for: ActsFor,
    /// The id of the request that the caller makes.
    request_id: Option<String>,
    /// The claim of the request on its idempotency key, if it has one.
    claimed: Option<ClaimedKey>,
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// The bearer of a root token of the deployment, which is a setting of the relay.
    Root,
    /// The bearer of a token that the API has made.
    Token {
        id: TokenId,
        /// What an operator calls the token.
        name: String,
        /// When the token stops being accepted.
        expires_at: Option<OffsetDateTime>,
    },
    /// A browser after a sign-in.
    Session(Session),
}

/// A session: who signed in, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub id: SessionId,
    /// With what the caller signed in.
    pub made_of: MadeOf,
    /// Who signed in: `root`, the id of the token, or the issuer and the subject of the user.
    pub subject: String,
    /// The token that the session was made of.
    pub token_id: Option<TokenId>,
    /// What the token or the user is called; `None` for a root token.
    pub name: Option<String>,
    /// When the session stops being accepted.
    pub expires_at: OffsetDateTime,
}

/// A customer, by its id and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub id: CustomerId,
    pub name: String,
}

/// For whom an actor acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ActsFor {
    One(CustomerId),
    /// All customers, which only some lists allow.
    All,
}

impl Actor {
    /// The bearer of a root token, acting for the default customer.
    pub(super) const fn root() -> Self {
        let acts_for = ActsFor::One(store::DEFAULT_CUSTOMER);
        Self { who: Who::Root, scopes: Scopes::ALL, bound_to: None, acts_for, request_id: None, claimed: None }
    }

    /// The bearer of a token or of a session, acting for the customer that it is bound to, or else for the default
    /// customer.
    pub(super) fn of_token(who: Who, scopes: Scopes, bound_to: Option<Owner>) -> Self {
        let customer = bound_to.as_ref().map_or(store::DEFAULT_CUSTOMER, |owner| owner.id);
        Self { who, scopes, bound_to, acts_for: ActsFor::One(customer), request_id: None, claimed: None }
    }

    /// The same actor, making the request with this id.
    #[must_use]
    pub fn requesting(self, request_id: Option<String>) -> Self {
        Self { request_id, ..self }
    }

    /// The same actor, making a request that has claimed its idempotency key.
    pub(super) fn claiming(self, claimed: ClaimedKey) -> Self {
        Self { claimed: Some(claimed), ..self }
    }

    /// The claim of the request on its idempotency key.
    pub(super) const fn claimed(&self) -> Option<&ClaimedKey> {
        self.claimed.as_ref()
    }

    /// The same actor, acting for this customer.
    pub(super) fn acting_for(self, customer: CustomerId) -> Self {
        Self { acts_for: ActsFor::One(customer), ..self }
    }

    /// The same actor, acting for all customers.
    pub(super) fn acting_for_all(self) -> Self {
        Self { acts_for: ActsFor::All, ..self }
    }

    /// Who calls.
    #[must_use]
    pub const fn who(&self) -> &Who {
        &self.who
    }

    /// The actor, as the audit log names it.
    pub(super) fn author(&self) -> Author {
        let author = match &self.who {
            Who::Root => Author::root(),
            Who::Token { id, name, .. } => Author::token(*id, name),
            Who::Session(Session { id, subject, name, .. }) => {
                Author::session(subject, name.as_deref().unwrap_or(subject), Some(*id))
            }
        };
        author.requesting(self.request_id.clone()).claiming(self.claimed.as_ref().map(|claimed| claimed.claim.clone()))
    }

    /// The caller, as its requests and its idempotency keys are counted: the id of the token or of the session. All root
    /// tokens are one caller.
    pub(crate) fn caller(&self) -> String {
        match &self.who {
            Who::Root => "root".to_owned(),
            Who::Token { id, .. } => id.to_string(),
            Who::Session(Session { id, .. }) => id.to_string(),
        }
    }

    /// The caller, as the calls that last know it.
    pub(super) const fn lasting(&self) -> Caller {
        match &self.who {
            Who::Root => Caller::Root,
            Who::Token { id, .. } => Caller::Token(*id),
            Who::Session(Session { id, .. }) => Caller::Session(*id),
        }
    }

    /// What the actor may do.
    #[must_use]
    pub const fn scopes(&self) -> Scopes {
        self.scopes
    }

    /// The customer that the actor is bound to; `None` if it may act for any.
    #[must_use]
    pub const fn bound_to(&self) -> Option<&Owner> {
        self.bound_to.as_ref()
    }

    /// Checks that the actor has a scope.
    ///
    /// # Errors
    /// Returns [`Error::Forbidden`] if it does not.
    pub fn require(&self, scope: Scope) -> Result<(), Error> {
        if self.scopes.has(scope) { Ok(()) } else { Err(Error::Forbidden(Forbidden::Scope(scope))) }
    }

    /// Checks that the actor is bound to no customer, for what belongs to none.
    ///
    /// # Errors
    /// Returns [`Error::Forbidden`] if it is bound to one.
    pub fn require_unbound(&self) -> Result<(), Error> {
        if self.bound_to.is_none() { Ok(()) } else { Err(Error::Forbidden(Forbidden::Bound)) }
    }

    /// The customer that owns everything that the actor sees and changes.
    ///
    /// # Errors
    /// Returns an invalid field if the actor acts for all customers.
    pub fn customer(&self) -> Result<CustomerId, Error> {
        match self.acts_for {
            ActsFor::One(customer) => Ok(customer),
            ActsFor::All => {
                let problem = "\"*\" asks for all customers, which only lists of events, deliveries, rejections, \
                     sources, destinations, routes and replays do; set it to the name or id of one customer";
                Err(Error::Invalid(vec![FieldError::new("customer", problem)]))
            }
        }
    }

    /// The customer whose rows a list has; `None` for the rows of all customers.
    #[must_use]
    pub const fn listed(&self) -> Option<CustomerId> {
        match self.acts_for {
            ActsFor::One(customer) => Some(customer),
            ActsFor::All => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(scopes: &[Scope], bound_to: Option<Owner>) -> Actor {
        let who = Who::Token { id: TokenId::mint(1, [1; 10]), name: "ci".to_owned(), expires_at: None };
        Actor::of_token(who, scopes.iter().copied().collect(), bound_to)
    }

    #[test]
    fn the_root_token_has_every_scope_and_acts_for_the_default_customer() {
        let root = Actor::root();
        assert!(Scope::ALL.into_iter().all(|scope| root.require(scope).is_ok()));
        assert_eq!((root.customer().ok(), root.bound_to()), (Some(store::DEFAULT_CUSTOMER), None));
    }

    #[test]
    fn an_actor_has_only_its_scopes_and_is_told_which_one_is_missing() {
        let reader = token(&[Scope::Read], None);
        assert!(reader.require(Scope::Read).is_ok());
        let refused = reader.require(Scope::Write);
        assert!(matches!(refused, Err(Error::Forbidden(Forbidden::Scope(Scope::Write)))), "{refused:?}");
    }

    #[test]
    fn a_bound_token_acts_for_its_customer() {
        let id = CustomerId::mint(1, [2; 10]);
        let bound = token(&[Scope::Read], Some(Owner { id, name: "acme".to_owned() }));
        assert_eq!(bound.customer().ok(), Some(id));
        assert!(bound.require_unbound().is_err() && token(&[], None).require_unbound().is_ok());
    }

    #[test]
    fn only_lists_can_be_of_all_customers() {
        let all = Actor::root().acting_for_all();
        assert_eq!(all.listed(), None);
        assert!(matches!(all.customer(), Err(Error::Invalid(errors)) if errors[0].field == "customer"));
        let id = CustomerId::mint(1, [2; 10]);
        assert_eq!(all.acting_for(id).listed(), Some(id));
    }
}
