//! The actor: every function of the control layer takes an [`Actor`].

use shared::id::CustomerId;

/// The caller of the control layer, and the customer for which it acts.
///
/// There is only one actor: the bearer of the deployment's root token, who may do everything for the default customer.
/// The fields are private, so that an actor can only come from [`Actor::root`], which the API calls after it has
/// checked the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Actor {
    customer: CustomerId,
}

impl Actor {
    /// The bearer of the deployment's root token, acting for the default customer.
    #[must_use]
    pub const fn root() -> Self {
        Self { customer: store::DEFAULT_CUSTOMER }
    }

    /// The customer that owns everything that the actor sees and changes.
    #[must_use]
    pub const fn customer(self) -> CustomerId {
        self.customer
    }
}
