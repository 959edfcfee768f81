//! The settings of a route as a form: as they are typed, and as the control layer takes them.

use model::poison::Poison;

use crate::control::routes::{Route, RoutePatch, RouteSpec};
use crate::control::trial::{RecentEvents, RouteTrial};
use crate::dashboard::values::Values;

/// The settings as they are typed.
#[derive(Debug, Clone, Default)]
pub(super) struct Typed {
    pub(super) name: String,
    pub(super) source: String,
    pub(super) destination: String,
    /// One type per line.
    pub(super) types: String,
    pub(super) filter: String,
    pub(super) transform: String,
    pub(super) order_key: String,
    pub(super) poison: String,
    pub(super) enabled: bool,
}

impl Typed {
    /// The form of a new route.
    pub(super) fn new(source: Option<String>, destination: Option<String>) -> Self {
        Self {
            source: source.unwrap_or_default(),
            destination: destination.unwrap_or_default(),
            poison: Poison::default().name().to_owned(),
            enabled: true,
            ..Self::default()
        }
    }

    /// The form of a route as it is.
    pub(super) fn of(route: &Route) -> Self {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Self {
            name: text(&route.name),
            source: route.source.clone(),
            destination: route.destination.clone(),
            types: route.types.join("\n"),
            filter: text(&route.filter),
            transform: text(&route.transform),
            order_key: text(&route.order_key),
            poison: route.poison.name().to_owned(),
            enabled: route.enabled,
        }
    }

    /// The form as it was sent.
    pub(super) fn read(filled: &Values) -> Self {
        let text = |name: &str| filled.get(name).unwrap_or_default().to_owned();
        // An expression keeps its blanks, so that the places of its errors are those that the user sees.
        let lines = |name: &str| filled.raw(name).replace("\r\n", "\n");
        Self {
            name: text("name"),
            source: text("source"),
            destination: text("destination"),
            types: lines("types"),
            filter: lines("filter"),
            transform: lines("transform"),
            order_key: lines("order_key"),
            poison: text("poison"),
            enabled: filled.has("enabled"),
        }
    }

    fn types(&self) -> Vec<String> {
        self.types.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    fn poison(&self) -> Option<Poison> {
        Poison::from_name(&self.poison)
    }

    /// The settings of a new route.
    pub(super) fn spec(&self) -> RouteSpec {
        RouteSpec {
            name: set(&self.name),
            source: set(&self.source),
            destination: set(&self.destination),
            types: Some(self.types()),
            filter: set(&self.filter),
            transform: set(&self.transform),
            order_key: set(&self.order_key),
            poison: self.poison(),
            enabled: Some(self.enabled),
        }
    }

    /// The changes of a route: all settings that the form has.
    pub(super) fn patch(&self) -> RoutePatch {
        RoutePatch {
            name: Some(set(&self.name)),
            types: Some(Some(self.types())),
            filter: Some(set(&self.filter)),
            transform: Some(set(&self.transform)),
            order_key: Some(set(&self.order_key)),
            poison: Some(self.poison()),
            enabled: Some(Some(self.enabled)),
        }
    }

    /// A trial against the newest `limit` events of the source.
    pub(super) fn trial(&self, route: Option<String>, limit: i64) -> RouteTrial {
        RouteTrial {
            route,
            types: Some(Some(self.types())),
            filter: Some(set(&self.filter)),
            transform: Some(set(&self.transform)),
            order_key: Some(set(&self.order_key)),
            events: None,
            recent: Some(RecentEvents { source: set(&self.source), event_type: None, limit: Some(limit) }),
        }
    }
}

/// A text that is set; `None` if it is blank.
fn set(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_empty_is_not_set() {
        let typed = Typed { types: " a \n\n b".to_owned(), filter: " \n".to_owned(), ..Typed::new(None, None) };
        let spec = typed.spec();
        assert_eq!((spec.types, spec.filter, spec.name), (Some(vec!["a".to_owned(), "b".to_owned()]), None, None));
        let patch = typed.patch();
        assert_eq!((patch.filter, patch.enabled), (Some(None), Some(Some(true))));
        assert_eq!(patch.poison, Some(Some(Poison::Block)));
    }
}
