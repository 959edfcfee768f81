//! JSON merge patches (RFC 7396), and the names of the settings that a change has reset or removed.
//!
//! The settings that result from a patch are read and checked like the settings of a PUT.

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// Distinguishes a field that is null from an omitted one. For `#[serde(default, deserialize_with = …)]`.
pub(super) fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Applies a patch to a value: the fields of objects are merged, null removes a field, and any other value replaces the
/// old one.
pub(super) fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(&name);
        } else {
            merge(target.entry(name).or_insert(Value::Null), value);
        }
    }
}

/// The sorted paths of the settings that differed from their default `before` a change and have their default `after`
/// it. The fields of an object that is empty by default, such as `headers`, have no default: a field is listed if it
/// was removed. Values are never included.
pub(super) fn dropped(before: &Value, after: &Value, default: &Value) -> Vec<String> {
    let mut names = Vec::new();
    gone("", before, after, default, &mut names);
    names.sort_unstable();
    names
}

fn gone(path: &str, before: &Value, after: &Value, default: &Value, names: &mut Vec<String>) {
    for (name, before) in before.as_object().into_iter().flatten() {
        let (after, default) = (&after[name.as_str()], &default[name.as_str()]);
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let may_have_any_field = default.as_object().is_none_or(Map::is_empty);
        if before == default {
            // The setting had its default already.
        } else if may_have_any_field && before.is_object() && after.is_object() {
            gone(&path, before, after, &Value::Null, names);
        } else if after == default {
            names.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn patches_are_merged_as_in_the_examples_of_the_rfc() {
        // RFC 7396, appendix A.
        for (target, patch, merged) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a":"b"}), json!(["c"]), json!(["c"])),
            (json!({"a":"foo"}), json!(null), json!(null)),
            (json!({"a":"foo"}), json!("bar"), json!("bar")),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!([1, 2]), json!({"a":"b","c":null}), json!({"a":"b"})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ] {
            let mut value = target.clone();
            merge(&mut value, patch.clone());
            assert_eq!(value, merged, "{target} with {patch}");
        }
    }

    #[test]
    fn settings_that_are_reset_to_their_defaults_are_listed() {
        let default = json!({"number": 10, "rate": null, "headers": {}, "retry": {"schedule_s": [0]}});
        let before = json!({
            "url": "a", "number": 20, "rate": {"limit": 5}, "headers": {"x-b": true, "x-a": true, "x-c": true},
            "retry": {"initial_s": 1},
        });
        let after =
            json!({"url": "b", "number": 10, "rate": null, "headers": {"x-a": true}, "retry": {"schedule_s": [0]}});
        assert_eq!(dropped(&before, &after, &default), ["headers.x-b", "headers.x-c", "number", "rate", "retry"]);
        let after = json!({
            "url": "a", "number": 30, "rate": {"limit": 6}, "headers": {"x-a": true, "x-b": true, "x-c": true, "x-d": true},
            "retry": {"schedule_s": [0, 5]},
        });
        assert!(dropped(&before, &after, &default).is_empty(), "other values are not dropped");
        assert!(dropped(&default, &after, &default).is_empty(), "nothing was set");
    }

    #[test]
    fn fields_of_a_free_form_object_are_listed_with_their_path() {
        let default = json!({"config": {}});
        let before = json!({"config": {"a": {"b": 1, "c": null, "d": {"e": 2}}, "f": 3}});
        let names = |after| dropped(&before, &after, &default);
        assert_eq!(names(json!({"config": {"a": {"d": {}}}})), ["config.a.b", "config.a.d.e", "config.f"]);
        assert_eq!(names(json!({"config": {"a": null}})), ["config.a", "config.f"]);
        assert_eq!(names(json!({"config": {}})), ["config.a", "config.f"]);
    }
}
