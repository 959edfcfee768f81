//! What the claims of a provider say about a user.

use openidconnect::AdditionalClaims;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The longest name of a user that is kept, in characters.
const MAX_NAME: usize = 100;

/// A user, as the provider says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// By what the provider knows the user; it never changes.
    pub subject: String,
    /// What the user is called.
    pub name: Option<String>,
    /// The groups of the user; `None` if the provider sent no such claim.
    pub groups: Option<Vec<String>>,
}

impl User {
    pub(super) fn new(subject: &str, name: Option<String>, groups: Option<Vec<String>>) -> Self {
        // PostgreSQL can store every character but NUL.
        let name = name.map(|name| name.chars().filter(|one| !one.is_control()).take(MAX_NAME).collect());
        Self { subject: subject.to_owned(), name, groups }
    }
}

/// All claims beyond the standard ones.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct AllClaims {
    #[serde(flatten)]
    all: Map<String, Value>,
}

impl AdditionalClaims for AllClaims {}

/// The groups of a claim: a list of texts, or one text. `None` if there is no such claim.
pub(super) fn groups(claims: &AllClaims, claim: &str) -> Option<Vec<String>> {
    match claims.all.get(claim)? {
        Value::String(group) => Some(vec![group.clone()]),
        Value::Array(groups) => Some(groups.iter().filter_map(Value::as_str).map(str::to_owned).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Some(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn groups_are_a_list_of_texts_or_one_text() {
        let read = |claims: Value| groups(&serde_json::from_value(claims).expect("claims"), "groups");
        assert_eq!(read(json!({ "groups": ["a", "b", 1] })), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(read(json!({ "groups": "a" })), Some(vec!["a".to_owned()]));
        assert_eq!(read(json!({ "groups": { "a": true } })), Some(Vec::new()));
        assert_eq!(read(json!({ "roles": ["a"] })), None);
    }

    #[test]
    fn the_name_of_a_user_is_bounded_and_has_no_control_characters() {
        let name = |text: String| User::new("1", Some(text), None).name.expect("a name");
        assert_eq!(name("Ada\0 Lovelace\n".to_owned()), "Ada Lovelace");
        assert_eq!(name("ü".repeat(500)).chars().count(), MAX_NAME);
    }
}
