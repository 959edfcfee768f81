//! Generates `docs/PROVIDERS.md` from the catalogue. The test fails if the page is not up to date.

use std::fmt::Write as _;
use std::path::Path;

use crate::provider::{Confidence, Provider, SecretNeed, catalogue};

const INTRODUCTION: &str = "# Providers

The providers that Tidegate verifies at the edge. Each is an entry of `shared/src/providers.json`, from which this page is
generated (`UPDATE_DOCS=1 cargo test -p shared`). `GET /v1/providers` returns the same facts.

Confidence says where the facts of an entry come from: A the provider's own documentation or SDK, B a second source or
common knowledge, C a single second source. An entry that is marked *uncertain* is not counted: a part of its scheme is not
published. In *Delivery*, \"~\" marks facts that are not from the provider itself.

A batch, which reports several occurrences, is one event: its type is that of its first item, and it is stored,
deduplicated and delivered as it arrived.

A request with a known id is a copy if its body is also the same. A request with another body is an event of its own, marked
`same_key_as`, unless the provider is listed as one that changes the body when it sends an event again. If the body is signed
and the id is not, the id only counts together with the body. A source can define its own id: `\"key\"` in its `config` is a
template such as `\"{json:id}.{json:updated_at}\"`, or `\"none\"`.
";

fn page() -> String {
    let certain = catalogue().iter().filter(|provider| provider.certain).count();
    let uncertain = catalogue().len() - certain;
    let mut page = format!("{INTRODUCTION}\n{certain} entries are certain, {uncertain} are not.\n\n");
    page.push_str(
        "| provider | id | method | where | tolerance | needs | confidence |\n|---|---|---|---|---|---|---|\n",
    );
    catalogue().iter().for_each(|provider| row(&mut page, provider));
    catalogue().iter().for_each(|provider| section(&mut page, provider));
    page
}

fn row(page: &mut String, provider: &Provider) {
    let facts = provider.scheme_facts();
    let tolerance = facts.tolerance_s.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds} s"));
    let mut needs: Vec<_> = provider.settings.iter().filter(|s| s.required).map(|s| format!("`{}`", s.name)).collect();
    match provider.secret_need() {
        SecretNeed::Required => needs.insert(0, "secret".to_owned()),
        SecretNeed::HandedOver => needs.insert(0, "handed over".to_owned()),
        SecretNeed::None => {}
    }
    let (name, id, methods, places) = (&provider.name, &provider.id, or_dash(&facts.methods), or_dash(&facts.places));
    let confidence = letter(provider);
    let needs = if needs.is_empty() { "-".to_owned() } else { needs.join(", ") };
    let _ =
        writeln!(page, "| [{name}](#{id}) | `{id}` | {methods} | {places} | {tolerance} | {needs} | {confidence} |");
}

fn section(page: &mut String, provider: &Provider) {
    let _ = writeln!(page, "\n<a id=\"{}\"></a>\n\n### {}\n", provider.id, provider.name);
    let mut line = |name: &str, text: &str| {
        let _ = writeln!(page, "- {name}: {text}");
    };
    if let Some(note) = &provider.note {
        line("Note", note);
    }
    if let Some(help) = &provider.secret_help {
        line("Secret", help);
    }
    for setting in &provider.settings {
        let default = match &setting.default {
            Some(default) if !default.is_empty() => format!(", otherwise `{default}`"),
            Some(_) | None => String::new(),
        };
        let required = if setting.required { ", required" } else { "" };
        line(&format!("Setting `{}`", setting.name), &format!("{}{required}{default}", setting.help));
    }
    if let Some(keys) = provider.scheme_facts().keys {
        line("Keys", &format!("fetched from {keys}"));
    }
    if let Some(rotation) = &provider.rotation {
        line("Rotation", rotation);
    }
    if let Some(gap) = &provider.unauthenticated {
        line("Not authenticated", gap);
    }
    let alternatives =
        |templates: &[String]| templates.iter().map(|text| format!("`{text}`")).collect::<Vec<_>>().join(", else ");
    if !provider.event_id.is_empty() {
        line("Event id", &alternatives(&provider.event_id.iter().map(ToString::to_string).collect::<Vec<_>>()));
    }
    if provider.resend_changes_body {
        line("Sent again", "the body may differ, and a request with a known id is a copy");
    }
    if !provider.event_type.is_empty() {
        line("Event type", &alternatives(&provider.event_type.iter().map(ToString::to_string).collect::<Vec<_>>()));
    }
    if let Some(items) = &provider.items {
        line(
            "Batch",
            &if items.is_empty() { "the body is a list".to_owned() } else { format!("the list at `{items}`") },
        );
    }
    for challenge in &provider.challenges {
        let when: Vec<_> = challenge.when.iter().map(|(place, expected)| format!("`{place}` {expected}")).collect();
        let event = if challenge.forward { ", and is an event" } else { "" };
        let verified = if challenge.verify { "verified and " } else { "" };
        line(
            "Answered at the edge",
            &format!("{}: {verified}answered with {}{event}", when.join(", "), challenge.reply.status),
        );
    }
    let answer = &provider.acknowledgement;
    if let Some(body) = &answer.body {
        line(
            "Acknowledgement",
            &format!(
                "{} with {}",
                answer.status,
                if body.is_empty() { "no body".to_owned() } else { format!("`{body}`") }
            ),
        );
    }
    let delivery = &provider.delivery;
    let tilde = if delivery.unconfirmed { "~ " } else { "" };
    let timeout = delivery.timeout_s.map(|seconds| format!("; waits {seconds} s")).unwrap_or_default();
    let retries = delivery.retries.as_ref().map(|text| format!("; tries again: {text}")).unwrap_or_default();
    line("Delivery", &format!("{tilde}expects {}{timeout}{retries}", delivery.success));
    if let Some(docs) = &provider.docs {
        line("Documentation", &format!("<{docs}>"));
    }
}

fn letter(provider: &Provider) -> String {
    let letter = match provider.confidence {
        Confidence::A => "A",
        Confidence::B => "B",
        Confidence::C => "C",
    };
    if provider.certain { letter.to_owned() } else { format!("{letter}, uncertain") }
}

fn or_dash(texts: &[String]) -> String {
    if texts.is_empty() { "-".to_owned() } else { texts.join(" or ") }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test writes the page if it is asked to")]
fn the_page_of_providers_agrees_with_the_catalogue() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/PROVIDERS.md");
    let made = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &made).expect("docs/PROVIDERS.md is written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == made,
        "docs/PROVIDERS.md is out of date; run: UPDATE_DOCS=1 cargo test -p shared page_of_providers"
    );
}
