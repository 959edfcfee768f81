//! The names of sources, destinations, routes and customers, and references by id or name.

use std::str::FromStr;

use super::fields::Problems;
use super::{Actor, Error};

/// The maximum length of a name, in characters.
pub(crate) const MAX_NAME: usize = 64;

/// The beginning of the ids of customers.
const CUSTOMER_PREFIX: &str = "cus_";

/// The beginning of the ids of routes.
const ROUTE_PREFIX: &str = "rte_";

/// The name of a new object. Problems are noted.
pub(super) fn required(given: Option<&str>, problems: &mut Problems) -> String {
    match given {
        Some(name) => check(name, problems),
        None => problems.add("name", "is required"),
    }
    given.unwrap_or_default().to_owned()
}

/// Checks the name in the path of a PUT. If the body has a name, it must be the same.
pub(super) fn check_path(name: &str, given: Option<&str>, problems: &mut Problems) {
    check(name, problems);
    if given.is_some_and(|given| given != name) {
        problems.add("name", "differs from the name in the path, and names cannot be changed; omit it");
    }
}

/// The name of a new customer, or the new name of one. Problems are noted.
pub(super) fn required_of_customer(given: Option<&str>, problems: &mut Problems) -> String {
    let name = required(given, problems);
    check_customer(&name, problems);
    name
}

/// Checks the name that a route is given.
pub(super) fn check_route(name: &str, problems: &mut Problems) {
    check(name, problems);
    if name.starts_with(ROUTE_PREFIX) {
        problems.add("name", "must not begin with rte_, which is reserved for ids");
    }
}

/// Checks the name in the path of a PUT of a route. If the body has a name, it must be the same.
pub(super) fn check_path_of_route(name: &str, given: Option<&str>, problems: &mut Problems) {
    check_route(name, problems);
    if given.is_some_and(|given| given != name) {
        problems.add("name", "differs from the name in the path; omit it, or rename the route in a call by its id");
    }
}

/// Checks the name in the path of a PUT of a customer. If the body has a name, it must be the same.
pub(super) fn check_path_of_customer(name: &str, given: Option<&str>, problems: &mut Problems) {
    check_path(name, given, problems);
    check_customer(name, problems);
}

/// Sources and destinations may have such names: they existed before customers had names.
fn check_customer(name: &str, problems: &mut Problems) {
    if name.starts_with(CUSTOMER_PREFIX) {
        problems.add("name", "must not begin with cus_, which is reserved for ids");
    }
}

/// The id of an object that a filter names. An id is not looked up, because history outlives its objects; `found` looks
/// up a name.
///
/// # Errors
/// Returns an error if a query fails. Problems are noted.
pub(super) async fn id_in_filter<I: FromStr>(
    actor: &Actor,
    field: &str,
    text: Option<&str>,
    problems: &mut Problems,
    found: impl AsyncFnOnce(&str) -> Result<I, Error>,
) -> Result<Option<I>, Error> {
    let Some(text) = text else { return Ok(None) };
    if let (Some(id), _) = id_or_name(text) {
        return Ok(Some(id));
    }
    if actor.listed().is_none() {
        problems.add(field, "a name belongs to one customer; use an id to select from all customers");
        return Ok(None);
    }
    problems.named(field, text, found(text).await)
}

/// Reads a text as an id or as a name. Both are `None` if it can be neither.
pub(super) fn id_or_name<I: FromStr>(text: &str) -> (Option<I>, Option<&str>) {
    match text.parse() {
        Ok(id) => (Some(id), None),
        Err(_) => (None, problem(text).is_none().then_some(text)),
    }
}

/// Notes what is wrong with a name. Names appear in URLs, so they are lower-case ASCII. A name must not look like an
/// id, because either is accepted wherever an object is named.
fn check(name: &str, problems: &mut Problems) {
    if let Some(problem) = problem(name) {
        problems.add("name", problem);
    }
}

fn problem(name: &str) -> Option<&'static str> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    let first_is_fine = name.bytes().next().is_some_and(|byte| byte != b'-' && byte != b'_');
    if name.len() > MAX_NAME || !first_is_fine || !name.bytes().all(allowed) {
        return Some(
            "must be 1 to 64 characters long, contain only a–z, 0–9, - and _, and begin with a letter or digit",
        );
    }
    ["src_", "dst_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
        .then_some("must not begin with src_ or dst_, which are reserved for ids")
}

#[cfg(test)]
mod tests {
    use shared::id::SourceId;

    use super::*;

    #[test]
    fn names_are_short_lower_case_and_different_from_ids() {
        for good in ["a", "0", "stripe-live_2", &"a".repeat(64)] {
            assert_eq!(problem(good), None, "{good}");
        }
        for bad in ["", "-a", "_a", "Stripe", "a b", "a.b", "a/b", "ä", "src_1", "dst_x", &"a".repeat(65)] {
            assert!(problem(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn the_name_of_a_customer_is_not_an_id() {
        let problems = |name: &str| {
            let mut problems = Problems::default();
            required_of_customer(Some(name), &mut problems);
            problems.finish().is_err()
        };
        assert!(!problems("acme") && problems("cus_1") && problems("src_1") && problems("*"));
    }

    #[test]
    fn a_reference_is_an_id_or_a_name_or_neither() {
        let id = SourceId::mint(1, [0; 10]);
        assert_eq!(id_or_name::<SourceId>(&id.to_string()), (Some(id), None));
        assert_eq!(id_or_name::<SourceId>("stripe"), (None, Some("stripe")));
        assert_eq!(id_or_name::<SourceId>("src_nothing"), (None, None));
        assert_eq!(id_or_name::<SourceId>("a\0"), (None, None));
    }
}
