//! The filters of deliveries: in the URL, as the control layer reads them, and in words.

use serde_json::{Map, Value};

use super::frame::Frame;
use super::link;
use super::values::Values;
use crate::control::deliveries::DeliveryFilter;
use crate::control::{Error, fields};

/// The query parameters that are filters, with their names on the page.
pub(super) const FILTERS: [(&str, &str); 9] = [
    ("destination", "Destination"),
    ("state", "State"),
    ("status_class", "Status"),
    ("error", "Error class"),
    ("route", "Route"),
    ("event", "Event"),
    ("replay", "Replay"),
    ("after", "Created after"),
    ("before", "Created before"),
];

/// The query parameter that is the id of a ticked delivery.
pub(super) const ID: &str = "id";

/// A filter that is set, and the URL of the page without it.
pub(super) struct Chip {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) without: String,
}

/// The filters that are set.
pub(super) fn chips(frame: &Frame, given: &Values, filters: &[(&str, &'static str)]) -> Vec<Chip> {
    let chip = |(parameter, name): &(&str, &'static str)| {
        Some(Chip { name, value: given.get(parameter)?.to_owned(), without: frame.without(parameter) })
    };
    filters.iter().filter_map(chip).collect()
}

/// The filters as the object that the REST API reads.
pub(super) fn object(given: &Values) -> Map<String, Value> {
    let mut object = given.object(&FILTERS.map(|(name, _)| name));
    let ids: Vec<Value> = given.listed(ID).map(Value::from).collect();
    if !ids.is_empty() {
        object.insert("ids".to_owned(), Value::Array(ids));
    }
    object
}

/// The filters as the control layer takes them. An unknown state or class is refused.
pub(super) fn read(given: &Values) -> Result<DeliveryFilter, Error> {
    fields::read(Value::Object(object(given)))
}

/// The query of a page with the same filters, and with further parameters.
pub(super) fn query(filter: &DeliveryFilter, path: &str, more: &[(&str, &str)]) -> String {
    let mut pairs: Vec<(String, String)> = Vec::new();
    if let Ok(Value::Object(object)) = serde_json::to_value(filter) {
        for (name, value) in object {
            match value {
                Value::String(text) => pairs.push((name, text)),
                Value::Array(ids) => {
                    pairs.extend(ids.iter().filter_map(Value::as_str).map(|id| (ID.to_owned(), id.to_owned())));
                }
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {}
            }
        }
    }
    pairs.retain(|(name, _)| !more.iter().any(|(changed, _)| changed == name));
    let pairs: Vec<(&str, Option<&str>)> = pairs
        .iter()
        .map(|(name, value)| (name.as_str(), Some(value.as_str())))
        .chain(more.iter().map(|(name, value)| (*name, Some(*value))))
        .collect();
    link::with(path, &pairs)
}

/// The deliveries that a filter selects, in words that continue a sentence.
pub(super) fn words(filter: &DeliveryFilter) -> String {
    let DeliveryFilter { event, destination, state, error, route, status_class, replay, ids, after, before } = filter;
    if let Some(ids) = ids {
        return if ids.len() == 1 {
            "1 chosen delivery".to_owned()
        } else {
            format!("{} chosen deliveries", ids.len())
        };
    }
    let mut words = match state {
        Some(state) => format!("{} deliveries", state.name()),
        None => "deliveries".to_owned(),
    };
    let class = status_class.and_then(|class| serde_json::to_value(class).ok());
    let class = class.as_ref().and_then(Value::as_str).map(str::to_owned);
    for (text, value) in [
        ("to", destination),
        ("with the error class", error),
        ("last answered", &class),
        ("of the route", route),
        ("of the event", event),
        ("created by the replay", replay),
        ("created from", after),
        ("created before", before),
    ] {
        if let Some(value) = value {
            words.push_str(&format!(" {text} {value}"));
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(query: &str) -> Values {
        Values::of(&format!("/dashboard/deliveries?{query}").parse().expect("a URI")).expect("values")
    }

    #[test]
    fn a_filter_is_read_from_the_url_and_written_to_another() {
        let filter = read(&given("state=dead&status_class=5xx&destination=a%26b&cursor=x&after=2026-01-31T08:00"));
        let filter = filter.expect("a filter");
        assert_eq!(words(&filter), "dead deliveries to a&b last answered 5xx created from 2026-01-31T08:00:00Z");
        let url = query(&filter, "/x", &[("change", "retry"), ("state", "succeeded")]);
        assert_eq!(
            url,
            "/x?after=2026-01-31T08%3A00%3A00Z&destination=a%26b&status_class=5xx&change=retry&state=succeeded"
        );
        assert_eq!(words(&read(&given("")).expect("a filter")), "deliveries");
    }

    #[test]
    fn ticked_deliveries_are_ids() {
        let filter = read(&given("id=dlv_1&id=dlv_2")).expect("a filter");
        assert_eq!(words(&filter), "2 chosen deliveries");
        assert_eq!(query(&filter, "/x", &[]), "/x?id=dlv_1&id=dlv_2");
    }

    #[test]
    fn an_unknown_state_or_class_is_refused_and_names_the_field() {
        for (query, field) in [("state=lost", "state"), ("status_class=6xx", "status_class")] {
            assert!(matches!(read(&given(query)), Err(Error::Invalid(errors)) if errors[0].field == field), "{query}");
        }
    }
}
