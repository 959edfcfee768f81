//! Changing a part of something, by a JSON merge patch (RFC 7396), and naming what a change has reset or removed.
//!
//! What a patch makes of the settings is read and checked like the settings of a PUT.

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// Tells a field that is null from one that is left out; for `#[serde(default, deserialize_with = …)]`.
pub(super) fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Lays a patch over a value: the fields of objects are merged, null takes a field away, and all else is replaced.
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

/// The paths of what was set `before` a change and has its default since, sorted. A field of an object that is empty by
/// default, such as `headers`, has none: it is named if it is gone. Values are never part of it.
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
            // Nothing was set.
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
    fn patches_are_merged_as_the_examples_of_the_rfc_say() {
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
    fn what_was_set_and_has_its_default_since_is_named() {
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
    fn fields_inside_of_a_free_object_are_named_with_their_path() {
        let default = json!({"config": {}});
        let before = json!({"config": {"a": {"b": 1, "c": null, "d": {"e": 2}}, "f": 3}});
        let names = |after| dropped(&before, &after, &default);
        assert_eq!(names(json!({"config": {"a": {"d": {}}}})), ["config.a.b", "config.a.d.e", "config.f"]);
        assert_eq!(names(json!({"config": {"a": null}})), ["config.a", "config.f"]);
        assert_eq!(names(json!({"config": {}})), ["config.a", "config.f"]);
    }
}
