//! What is to be done at the provider, with the URL and the settings of a source.

use super::super::view;
use crate::control::providers::Provider;
use crate::control::sources::Source;

/// A step of the set-up.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::dashboard) struct Step {
    pub(in crate::dashboard) title: String,
    pub(in crate::dashboard) text: String,
    /// What to copy, with the id of its element.
    pub(in crate::dashboard) copy: Option<(&'static str, String)>,
    pub(in crate::dashboard) link: Option<&'static str>,
    pub(in crate::dashboard) is_done: bool,
}

impl Step {
    fn new(title: impl Into<String>, text: impl Into<String>) -> Self {
        Self { title: title.into(), text: text.into(), copy: None, link: None, is_done: false }
    }
}

/// The steps of a source. What the catalogue says of the provider is in them.
pub(in crate::dashboard) fn of(provider: &Provider, source: &Source, has_events: bool) -> Vec<Step> {
    let name = provider.name;
    let note = provider.note.map(view::sentence).unwrap_or_default();
    let mut steps = vec![
        Step {
            link: provider.docs,
            is_done: has_events,
            ..Step::new(format!("Open the webhook settings of {name}"), note)
        },
        Step {
            copy: Some(("step-url", source.ingest_url.clone())),
            is_done: has_events,
            ..Step::new(format!("Enter this URL at {name}"), "")
        },
    ];
    let help = provider.secret_help.map(view::sentence).unwrap_or_default();
    let known = !source.secrets.is_empty();
    steps.extend(match (provider.secret, known) {
        ("none", _) => None,
        ("handed_over", false) => Some(Step::new(
            "Save it there: the secret comes by itself",
            format!("{name} hands its secret over with its first request. {help}"),
        )),
        (_, false) => Some(Step::new("Give the source the secret", help)),
        (_, true) => {
            let hints: Vec<_> = source.secrets.iter().map(|secret| secret.hint.as_str()).collect();
            let text = format!("The source has it, ending in {}. {help}", hints.join(" and "));
            Some(Step { is_done: true, ..Step::new("The secret", text) })
        }
    });
    for setting in &provider.settings {
        // A value that both sides have to know, such as the verify token of Meta.
        if let (Some(value), "text") = (source.config[setting.name].as_str(), setting.kind) {
            let title = format!("{}: {value}", view::capital(setting.name));
            steps.push(Step { is_done: true, ..Step::new(title, view::sentence(setting.help)) });
        }
    }
    let waits = format!("Use its test button, or do what makes {name} send one. It appears on this page.");
    steps.push(Step { is_done: has_events, ..Step::new("Cause an event", waits) });
    steps
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use shared::id::SourceId;
    use time::OffsetDateTime;

    use super::*;
    use crate::control::providers;
    use crate::control::sources::{EdgeState, SecretHint};
    use crate::control::time::Timestamp;

    fn source(provider: &str, config: Value, secrets: &[&str]) -> Source {
        Source {
            id: SourceId::mint(1, [1; 10]),
            customer: None,
            name: "a".to_owned(),
            provider: provider.to_owned(),
            ingest_url: "https://edge.example/in/src_1".to_owned(),
            config,
            edge: EdgeState::Active,
            edge_error: None,
            secrets: secrets.iter().map(|hint| SecretHint { hint: (*hint).to_owned() }).collect(),
            quarantine: None,
            dropped: Vec::new(),
            created_at: Timestamp(OffsetDateTime::UNIX_EPOCH),
            updated_at: Timestamp(OffsetDateTime::UNIX_EPOCH),
        }
    }

    fn steps(id: &str, config: Value, secrets: &[&str]) -> Vec<Step> {
        of(&providers::of_catalogue(id).expect("in the catalogue"), &source(id, config, secrets), false)
    }

    #[test]
    fn the_steps_have_the_url_of_the_source_and_the_hint_of_its_secret() {
        let steps = steps("github", json!({}), &["…9f3a"]);
        assert_eq!(steps[1].copy, Some(("step-url", "https://edge.example/in/src_1".to_owned())));
        assert!(steps[2].is_done && steps[2].text.contains("…9f3a") && steps[2].text.contains("Settings"), "{steps:?}");
        assert!(steps[0].text.contains("does not retry") && steps[0].link.is_some(), "{steps:?}");
    }

    #[test]
    fn a_provider_that_hands_its_secret_over_or_has_none_asks_for_none() {
        assert!(steps("notion", json!({}), &[])[2].title.contains("by itself"));
        assert_eq!(steps("aws-sns", json!({ "topic_arn": "arn:1" }), &[])[2].title, "Topic arn: arn:1");
        assert_eq!(steps("stripe", json!({}), &[])[2].title, "Give the source the secret");
    }
}
