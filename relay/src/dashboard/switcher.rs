//! The names of the customers for which a viewer may act, for the choice in the navigation.

use std::sync::Arc;
use std::time::Duration;

use super::kept::Kept;
use crate::control::acting::ALL;
use crate::control::{Actor, Control, Scope, names};

/// How old the names may be before they are read again.
pub(crate) const READ_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// How long a page waits for the names. Without them it has no choice, and everything else.
pub(crate) const WITHIN: Duration = Duration::from_millis(500);

/// With more names than this, the choice is a field with suggestions instead of a list.
const MOST_IN_A_LIST: usize = 50;

/// The names that were read last. All viewers who may see them see the same.
#[derive(Debug)]
pub(super) struct Customers(Kept<(), Arc<[String]>>);

impl Default for Customers {
    fn default() -> Self {
        Self(Kept::new(1))
    }
}

impl Customers {
    /// The names; none for a viewer who is bound to a customer.
    pub(super) async fn names(&self, control: &Control, actor: &Actor) -> Arc<[String]> {
        if actor.require(Scope::Read).is_err() || actor.require_unbound().is_err() {
            return Arc::default();
        }
        let read = self.0.read((), READ_AGAIN_AFTER, async || Ok(names::customers(control, actor).await?.into()));
        match tokio::time::timeout(WITHIN, read).await {
            Ok(Ok(shown)) => Arc::clone(&*shown.value),
            Ok(Err(_)) | Err(_) => self.0.last(()).map_or_else(Arc::default, |known| Arc::clone(&*known.value)),
        }
    }

    /// Reads the names again for the next page, because they have changed.
    pub(super) fn forget(&self) {
        self.0.forget(());
    }
}

/// The choice of a customer.
#[derive(Debug)]
pub(super) struct Switcher {
    /// Where it leads: the first page of the section, because an object belongs to one customer.
    pub(super) path: String,
    /// The value of the field.
    pub(super) chosen: String,
    /// The values of the list and what they are called; empty if there are too many.
    pub(super) options: Vec<(String, String)>,
}

impl Switcher {
    /// The choice for a viewer who acts for `chosen`, which is a name, an id, or all customers; `None` for the default
    /// customer.
    pub(super) fn new(path: String, chosen: Option<&str>, names: &[String]) -> Self {
        let chosen = chosen.unwrap_or_default();
        let mut options = Vec::new();
        if names.len() <= MOST_IN_A_LIST {
            options.push((String::new(), "default".to_owned()));
            options.extend(names.iter().filter(|name| *name != "default").map(|name| (name.clone(), name.clone())));
            options.push((ALL.to_owned(), "All customers".to_owned()));
            if !options.iter().any(|(value, _)| value == chosen) {
                options.insert(1, (chosen.to_owned(), chosen.to_owned()));
            }
        }
        Self { path, chosen: chosen.to_owned(), options }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_has_every_name_once_and_what_is_chosen() {
        let names = ["acme", "default"].map(str::to_owned);
        let values = |chosen| {
            let switcher = Switcher::new("/dashboard".to_owned(), chosen, &names);
            switcher.options.into_iter().map(|(value, _)| value).collect::<Vec<_>>()
        };
        assert_eq!(values(None), ["", "acme", "*"]);
        assert_eq!(values(Some("*")), ["", "acme", "*"]);
        assert_eq!(values(Some("other")), ["", "other", "acme", "*"]);
        let many: Vec<String> = (0..=MOST_IN_A_LIST).map(|number| format!("c{number}")).collect();
        assert!(Switcher::new(String::new(), None, &many).options.is_empty());
    }
}
