//! Scopes: what an actor may do. Every function of the control layer begins with the scope that it needs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// See metadata.
    Read,
    /// See the bodies of events and the bytes of unreadable messages.
    Bodies,
    /// Change sources, destinations and routes.
    Write,
    /// Retry, release, replay and cancel.
    Replay,
    /// See and rotate the signing secrets of destinations.
    Secrets,
    /// Manage customers, tokens and operations, and erase the bodies of events.
    Admin,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 6] = [Self::Read, Self::Bodies, Self::Write, Self::Replay, Self::Secrets, Self::Admin];

    /// The name of the scope, as the API and the database have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Bodies => "bodies",
            Self::Write => "write",
            Self::Replay => "replay",
            Self::Secrets => "secrets",
            Self::Admin => "admin",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

impl Scopes {
    /// Every scope, also those that later versions add.
    pub const ALL: Self = Self(u8::MAX);

    /// The scopes with these names. An unknown name is left out: a newer relay has stored it, and it allows nothing that
    /// this relay knows.
    #[must_use]
    pub fn of_names(names: &[String]) -> Self {
        let known = |name: &String| Scope::ALL.into_iter().find(|scope| scope.name() == name);
        names.iter().filter_map(known).collect()
    }

    /// Whether the set has this scope.
    #[must_use]
    pub const fn has(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// The scopes of the set, in their usual order.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.has(*scope))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |set, scope| set | scope.bit()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_the_scopes_that_it_was_made_of_and_no_others() {
        for scope in Scope::ALL {
            let set = Scopes::from_iter([scope]);
            assert_eq!(set.iter().collect::<Vec<_>>(), [scope]);
            assert!(Scopes::ALL.has(scope) && !Scopes::default().has(scope));
        }
        let names = ["replay", "telepathy", "read"].map(str::to_owned);
        assert_eq!(Scopes::of_names(&names).iter().collect::<Vec<_>>(), [Scope::Read, Scope::Replay]);
    }

    #[test]
    fn the_name_of_a_scope_is_its_name_in_json() {
        for scope in Scope::ALL {
            assert_eq!(serde_json::to_value(scope).expect("json"), scope.name());
        }
    }
}
