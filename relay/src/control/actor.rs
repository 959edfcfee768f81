//! Who acts: every function of the control layer takes an [`Actor`].

use shared::id::CustomerId;

/// Who acts, and for which customer.
///
/// Today there is one: the bearer of the deployment's root token, who may do everything for the default customer. Its fields are
/// private, so that an actor is only made by what has checked a token.
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

    /// The customer that owns what the actor sees and changes.
    #[must_use]
    pub const fn customer(self) -> CustomerId {
        self.customer
    }
}
