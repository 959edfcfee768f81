//! Sets of scopes: what an actor may do. Every function of the control layer begins with the scope that it needs.

pub use model::scope::Scope;

const fn bit(scope: Scope) -> u8 {
    1 << scope as u8
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

impl Scopes {
    /// Every scope, also those that later versions add.
    pub const ALL: Self = Self(u8::MAX);

    /// The scopes with these names. An unknown name is left out: a newer relay has stored it, and it allows nothing
    /// that this relay knows.
    #[must_use]
    pub fn of_names(names: &[String]) -> Self {
        names.iter().filter_map(|name| Scope::from_name(name)).collect()
    }

    /// Whether the set has this scope.
    #[must_use]
    pub const fn has(self, scope: Scope) -> bool {
        self.0 & bit(scope) != 0
    }

    /// The scopes of the set, in their usual order.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.has(*scope))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |set, scope| set | bit(scope)))
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
}
