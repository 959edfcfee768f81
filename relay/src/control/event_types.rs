//! Checks the types of events that a route takes.

use std::collections::HashSet;

use super::fields::Problems;

/// The most types of one route: more is better said by a filter.
pub(crate) const MAX_TYPES: usize = 100;

/// The longest type, in characters. No stored event has a longer type.
pub(crate) const MAX_CHARACTERS: usize = 512;

/// Adds a problem for each type that no event can have, that is given twice, or that was probably meant as a pattern,
/// and for a list that is too long.
pub(super) fn check(types: &[String], problems: &mut Problems) {
    if types.len() > MAX_TYPES {
        problems.add(
            "types",
            format!(
                "has {} types, but at most {MAX_TYPES} are allowed; use a filter on event.type instead",
                types.len()
            ),
        );
        return;
    }
    let mut seen = HashSet::new();
    for (at, name) in types.iter().enumerate() {
        let field = format!("types[{at}]");
        if name.is_empty() {
            problems.add(field, "must not be empty; leave out types, or set it to [], to take events of every type");
        } else if name.chars().count() > MAX_CHARACTERS {
            problems.add(field, format!("must have at most {MAX_CHARACTERS} characters"));
        } else if name.contains('*') {
            problems.add(
                field,
                "must not contain *, because types are compared exactly; leave out types to take events of every type, \
                 or use a filter such as event.type.startsWith('invoice.')",
            );
        } else if !seen.insert(name) {
            problems.add(field, format!("\"{name}\" is already in the list; remove one of them"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fields::{FieldError, wrong_fields};
    use super::*;

    fn problems(types: &[String]) -> Vec<String> {
        let mut problems = Problems::default();
        check(types, &mut problems);
        wrong_fields(problems.finish()).iter().map(FieldError::text).collect()
    }

    #[test]
    fn every_type_that_is_not_usable_is_named_by_its_place() {
        let many: Vec<String> = (0..MAX_TYPES).map(|number| format!("type.{number}")).collect();
        assert!(problems(&many).is_empty());
        assert!(problems(&[]).is_empty());
        assert!(problems(&["ü".repeat(MAX_CHARACTERS)]).is_empty());
        let one_more: Vec<String> = (0..=MAX_TYPES).map(|number| format!("type.{number}")).collect();
        assert!(problems(&one_more)[0].starts_with("types: has 101 types"), "{:?}", problems(&one_more));
        let long = "x".repeat(MAX_CHARACTERS + 1);
        let wrong = ["a", "", "invoice.*", long.as_str(), "a", "*"].map(str::to_owned);
        let found = problems(&wrong);
        let fields: Vec<&str> = found.iter().filter_map(|text| text.split(':').next()).collect();
        assert_eq!(fields, ["types[1]", "types[2]", "types[3]", "types[4]", "types[5]"]);
    }
}
