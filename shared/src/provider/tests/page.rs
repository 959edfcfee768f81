//! Generates `docs/PROVIDERS.md` from the catalogue. The test fails if the page is not up to date.

use std::fmt::Write as _;
use std::path::Path;

use crate::job::JobRule;
use crate::provider::{Confidence, Provider, SecretNeed, catalogue};
use crate::scheme::handshake::{Expected, HandshakeRule};
use crate::scheme::template::Template;

/// Entries that are no company: ways to sign or to authenticate that any sender may use.
const GENERIC: [&str; 6] = ["standard-webhooks", "custom", "token", "basic", "none", "tidegate"];

const INTRODUCTION: &str = "# Providers

The providers and generic schemes that Tidegate knows. This page is generated from `shared/src/providers.json`;
`GET /v1/providers` returns the same data. For a provider that is not listed, use a [generic scheme](#generic-schemes).

## How to read this page

| column | meaning |
|---|---|
| id | the `provider` of a source |
| method | how a request is authenticated. *Shared token* and *HTTP Basic* send a secret with each request and sign nothing. *None*: the provider neither signs nor sends a secret. *No signature known*: it is not known whether or how the provider signs |
| where | the place of the signature or token in a request. A dash, here and under *needs*: there is none |
| tolerance | how far the signed time may be from the present time (`tolerance_s`). *None*: no time is signed, so an old request stays valid |
| needs | what a source needs: a secret, and required settings. *Sent by the provider*: the provider sends the secret itself |
| confidence | how the signing scheme was confirmed (see below) |

Confidence **A**: by the provider's own documentation or SDK. **B**: by several secondary sources, such as client
libraries and guides, or by common knowledge. **C**: by a single secondary source and nothing else. *Uncertain*: a part
of the scheme is not published, or it is not known whether there is one; test such a source with a real webhook before
you rely on it.

Each entry has some of these lines:

| line | meaning |
|---|---|
| Note | what you should know before you use it |
| Secret | what to put into `secrets` of the source, and where the provider shows it |
| Setting | a field of the source's `config` |
| Keys | where the edge fetches the keys that the provider publishes |
| Rotation | how the provider replaces its secret, and what you have to do |
| Not authenticated | the parts of a request that the signature does not cover. Someone who has a signed request can change them: do not trust them |
| Event id, Event type | templates for the id and the type of an event; the first one whose parts are all there counts |
| Resends | whether the provider changes the body when it sends an event again |
| Batch | where a request has a list of items. Tidegate treats the request as one event, with the type of the first item |
| Job id, Job state | for providers of AI jobs: templates for the id and the state of the job that an event is about. A call of `/v1/await` waits for it |
| Job ends | the states in which a job has ended well or badly. `*` at the beginning stands for any text, and *no state* means an event without a state. Other states are progress |
| Answered at the edge | requests that the edge answers itself. They are not stored as events unless the line says so |
| Acknowledgement | the response to an accepted event, if it is not 200 with a JSON object that has the event's `id` |
| Delivery | which responses the provider takes for a success, its timeout and its retries. *Not confirmed by the provider*: at least a part of this line is from other sources |

A template is text with references in braces:

| reference | value |
|---|---|
| `{h:name}` | a header |
| `{json:a.b}`, `{json:/a/b}` | a value in a JSON body, by a path with dots or as a JSON pointer. `0` is the first item of a list |
| `{json?:a.b}` | the same; empty if there is no such value |
| `{query:name}` | a parameter of the URL's query |
| `{body}`, `{url}`, `{method}` | the raw body, the URL, the method |
| `{sha256hex:body}` | the SHA-256 of the body in hexadecimal. Other digests: `sha256raw:body`, `crc32dec:body`, `sha256hex:url` |
| `{sig:name}`, `{sig#0}` | a field, or an entry by its number, of the signature header |
| `{cfg:name}` | a setting of the source |
| `{fn:items(list[]:a+b)}` | these fields of every item of a list, with a hash if there are several items |

How repeated requests are recognised is described in the [README](../README.md#guarantees-and-their-limits). A source
can define its own id: `\"key\"` in its `config` is a template such as `\"{json:id}.{json:updated_at}\"`, or `\"none\"`.
";

/// A source of the provider `custom`.
const EXAMPLE: &str = "`{\"name\":\"acme\",\"provider\":\"custom\",\"secrets\":[\"…\"],\"config\":{\"header\":\"x-acme-signature\",\
     \"prefix\":\"sha256=\",\"content\":\"{h:x-acme-timestamp}.{body}\",\"timestamp_header\":\"x-acme-timestamp\"}}`";

const TABLE: &str =
    "| provider | id | method | where | tolerance | needs | confidence |\n|---|---|---|---|---|---|---|\n";

fn page() -> String {
    let uncertain = catalogue().iter().filter(|provider| !provider.certain).count();
    let (generic, mut companies): (Vec<_>, Vec<_>) =
        catalogue().iter().partition(|provider| GENERIC.contains(&provider.id.as_str()));
    assert_eq!(generic.len(), GENERIC.len(), "the catalogue has all generic schemes");
    companies.sort_by_key(|provider| provider.name.to_lowercase());
    let mut page = INTRODUCTION.to_owned();
    let _ = write!(page, "\n{} entries; {uncertain} of them are marked *uncertain*.\n", catalogue().len());
    for (heading, providers) in [("Providers by name", &companies), ("Generic schemes", &generic)] {
        let _ = write!(page, "\n## {heading}\n\n{TABLE}");
        providers.iter().for_each(|provider| row(&mut page, provider));
    }
    page.push_str("\n## Entries\n");
    companies.iter().chain(&generic).for_each(|provider| section(&mut page, provider));
    page
}

fn row(page: &mut String, provider: &Provider) {
    let facts = provider.scheme_facts();
    let tolerance = facts.tolerance_s.map_or_else(|| "none".to_owned(), |seconds| format!("{seconds} s"));
    let mut needs: Vec<_> = provider.settings.iter().filter(|s| s.required).map(|s| format!("`{}`", s.name)).collect();
    match provider.secret_need() {
        SecretNeed::Required => needs.insert(0, "secret".to_owned()),
        SecretNeed::HandedOver => needs.insert(0, "sent by the provider".to_owned()),
        SecretNeed::None => {}
    }
    let (name, id, places) = (&provider.name, &provider.id, or_dash(&facts.places));
    let methods = if facts.methods == ["none"] && !provider.certain {
        "no signature known".to_owned()
    } else {
        or_dash(&facts.methods)
    };
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
            Some(default) if !default.is_empty() => format!(" (default `{default}`)"),
            Some(_) | None => String::new(),
        };
        let required = if setting.required { " (required)" } else { "" };
        line(&format!("Setting `{}`{required}{default}", setting.name), &setting.help);
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
        |templates: &[String]| templates.iter().map(|text| format!("`{text}`")).collect::<Vec<_>>().join(", or else ");
    if !provider.event_id.is_empty() {
        line("Event id", &alternatives(&provider.event_id.iter().map(ToString::to_string).collect::<Vec<_>>()));
    }
    if provider.resend_changes_body {
        line("Resends", "the body can differ; a request with a known id is a copy");
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
    if let Some(job) = &provider.job {
        let texts = |templates: &[Template]| templates.iter().map(ToString::to_string).collect::<Vec<_>>();
        line("Job id", &alternatives(&texts(&job.id)));
        line("Job state", &alternatives(&texts(&job.state)));
        line("Job ends", &job_ends(job));
    }
    if provider.id == "custom" {
        line("Example of a source", EXAMPLE);
    }
    for handshake in &provider.handshakes {
        line("Answered at the edge", &answered(handshake));
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
    let from_others = if provider.delivery.unconfirmed { " (not confirmed by the provider)" } else { "" };
    line(&format!("Delivery{from_others}"), &delivery(provider));
    if let Some(docs) = &provider.docs {
        line("Documentation", &format!("<{docs}>"));
    }
}

fn job_ends(job: &JobRule) -> String {
    let list = |states: &[String]| {
        let shown = |state: &String| if state.is_empty() { "no state".to_owned() } else { format!("`{state}`") };
        states.iter().map(shown).collect::<Vec<_>>().join(", ")
    };
    let result = if job.carries_result { "" } else { ". The event does not carry the result" };
    match (job.good.as_slice(), job.bad.as_slice()) {
        ([], []) => "not known".to_owned(),
        (good, []) => format!("well: {}{result}", list(good)),
        (good, bad) => format!("well: {}; badly: {}{result}", list(good), list(bad)),
    }
}

/// A request that the edge answers itself.
fn answered(handshake: &HandshakeRule) -> String {
    let is = |expected: &Expected| match expected {
        Expected::Text(any) if any == "*" => "is present".to_owned(),
        Expected::Absent => "is missing".to_owned(),
        Expected::Text(text) => format!("is `{text}`"),
        Expected::Number(number) => format!("is `{number}`"),
    };
    let when: Vec<_> = handshake.when.iter().map(|(place, expected)| format!("`{place}` {}", is(expected))).collect();
    let verified = if handshake.verify { "verified and " } else { "" };
    let mut text = format!("if {}: {verified}answered with {}", when.join(" and "), handshake.reply.status);
    if let Some(effect) = &handshake.effect {
        let hosts: Vec<_> = effect.hosts.iter().map(|host| format!("`{host}`")).collect();
        let _ = write!(
            text,
            "; before that the edge requests the URL in `{}` (hosts {} only), which confirms it",
            effect.get,
            hosts.join(" and ")
        );
    }
    if let Some(place) = &handshake.store_secret {
        let _ = write!(text, "; `{place}` is stored as the secret of a source that has none");
    }
    if handshake.forward {
        text.push_str("; stored as an event too");
    }
    text
}

/// What the provider expects of a response, and when it sends again.
fn delivery(provider: &Provider) -> String {
    let delivery = &provider.delivery;
    let mut text = format!("expects {}", delivery.success);
    let documented = !GENERIC.contains(&provider.id.as_str());
    match delivery.timeout_s {
        Some(seconds) => {
            let _ = write!(text, "; timeout {seconds} s");
        }
        None if documented => text.push_str("; timeout not documented"),
        None => {}
    }
    match &delivery.retries {
        Some(retries) => {
            let _ = write!(text, "; retries: {retries}");
        }
        None if documented => text.push_str("; retries not documented"),
        None => {}
    }
    text
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
