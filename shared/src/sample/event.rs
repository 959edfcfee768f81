//! An event that looks like the provider's own: an example of its documentation with ids and times of now.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::fresh::Fresh;
use super::{Moment, SampleRequest};
use crate::extract::Extractor;
use crate::header::HeaderList;
use crate::provider::{Places, Provider};
use crate::scheme::reference::Reference;
use crate::scheme::reference::function::Function;
use crate::scheme::template::{Part, Template};

const JSON: &str = "application/json";
pub(super) const FORM: &str = "application/x-www-form-urlencoded";

/// The type that is written if the owner has named a place for it and the example has no value there.
const SOME_TYPE: &str = "sample.created";

/// The wanted values of an event; everything else is the example's.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// Written in the place of the type of an event.
    pub event_type: Option<&'a str>,
    /// Written in the place of the provider's id of an event. If the id consists of several fields, it is written to
    /// the first that is not the type.
    pub id: Option<&'a str>,
    /// Sent as it is, except for the values above.
    pub body: Option<&'a [u8]>,
}

/// Why an event cannot be made as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComposeError {
    #[error(
        "cannot set the event type \"{wanted}\": {}; omit --type, or pass a --body with this type",
        read_from(.provider, .places)
    )]
    Type { provider: String, wanted: String, places: Vec<Template> },
    #[error("cannot set the event id \"{wanted}\": {}; omit --id", read_from(.provider, .places))]
    Id { provider: String, wanted: String, places: Vec<Template> },
}

/// An example. Its texts hold the placeholders of [`Fresh::fill`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    /// Empty for the example of providers that have none of their own.
    provider: String,
    #[serde(default, rename = "type")]
    event_type: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: Option<Box<RawValue>>,
    /// In place of a body of JSON.
    #[serde(default)]
    form: Option<String>,
}

static EXAMPLES: LazyLock<Vec<Example>> =
    LazyLock::new(|| serde_json::from_str(include_str!("events.json")).expect("a test parses the embedded examples"));

/// The types for which there is an example of the provider.
pub fn example_types(provider: &str) -> impl Iterator<Item = &'static str> {
    examples(provider).filter_map(|example| example.event_type.as_deref())
}

/// An event for a source of `provider` with the owner's `config`, addressed to `url` and not signed.
///
/// Its id is a fresh one, unless a given body contains the id.
///
/// # Errors
/// Returns an error if such an event has no place for the wanted type or id.
pub fn compose(
    provider: &Provider,
    config: &Value,
    url: &str,
    wanted: Wanted<'_>,
    moment: Moment,
) -> Result<SampleRequest, ComposeError> {
    let fresh = Fresh::new(moment, "compose");
    let Places { ids, types, .. } = provider.places(config);
    let ids: Vec<_> = ids.into_iter().map(|(template, _)| template).collect();
    let reader = Extractor::new(provider, config);
    let extracted = |request: &SampleRequest| {
        let headers = request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        reader.extract(request.query(), &HeaderList::new(headers), &request.body)
    };
    let mut candidates: Vec<_> =
        examples(&provider.id).map(|example| example.request(url, wanted.body, &fresh)).collect();
    // The example of the wanted type comes first.
    candidates.sort_by_key(|request| {
        wanted.event_type.is_none() || extracted(request).event_type.as_deref() != wanted.event_type
    });
    let request = match wanted.event_type {
        None => candidates.into_iter().next().map(|request| filled(request, &types, wanted, || SOME_TYPE.to_owned())),
        Some(text) => candidates.iter().find_map(|request| {
            let now = extracted(request).event_type;
            if now.as_deref() == Some(text) {
                return Some(request.clone());
            }
            let mut written = types.iter().filter_map(|template| write(request, template, text, now.as_deref()));
            written.find(|request| extracted(request).event_type.as_deref() == Some(text))
        }),
    }
    .ok_or_else(|| ComposeError::Type {
        provider: provider.name.clone(),
        wanted: wanted.event_type.unwrap_or_default().to_owned(),
        places: types.clone(),
    })?;
    let request = filled(request, &ids, wanted, || fresh.id());
    let Some(id) = wanted.id else { return Ok(request) };
    let is_id = |request: &SampleRequest| extracted(request).provider_event_id.is_some_and(|read| read.contains(id));
    let (present, absent): (Vec<_>, Vec<_>) = ids.iter().partition(|template| renders(&request, template));
    let places = present.into_iter().chain(absent).flat_map(places_of);
    let places = places.filter(|place| !types.iter().flat_map(Template::references).any(|of_type| of_type == place));
    let mut written = places.filter_map(|place| {
        let mut written = request.clone();
        written.set(&place, id).ok().map(|()| written)
    });
    written.find(is_id).ok_or_else(|| ComposeError::Id {
        provider: provider.name.clone(),
        wanted: id.to_owned(),
        places: ids.clone(),
    })
}

impl Example {
    fn request(&self, url: &str, body: Option<&[u8]>, fresh: &Fresh) -> SampleRequest {
        let own = match (&self.body, &self.form) {
            (Some(body), _) => (JSON, compact(body.get())),
            (None, form) => (FORM, form.clone().unwrap_or_default()),
        };
        let (kind, body) = match body {
            Some(body) => (kind_of(body), body.to_vec()),
            None => (own.0, fresh.fill(&own.1).into_bytes()),
        };
        let mut headers = vec![("content-type".to_owned(), kind.to_owned())];
        headers.extend(self.headers.iter().map(|(name, value)| (name.clone(), fresh.fill(value))));
        SampleRequest { method: "POST".to_owned(), url: url.to_owned(), headers, body }
    }
}

/// JSON without blanks between its tokens, as providers send it. Some of their SDKs parse a body and verify their own
/// serialisation of it, which is the same for such JSON.
fn compact(json: &str) -> String {
    let (mut in_text, mut escaped) = (false, false);
    let is_kept = |letter: &char| {
        let closes_or_opens = *letter == '"' && !escaped;
        escaped = in_text && *letter == '\\' && !escaped;
        in_text ^= closes_or_opens;
        in_text || !letter.is_ascii_whitespace()
    };
    json.chars().filter(is_kept).collect()
}

/// The examples of a provider, or the general one if it has none.
fn examples(provider: &str) -> impl Iterator<Item = &'static Example> {
    let known = EXAMPLES.iter().any(|example| example.provider == provider);
    let wanted = if known { provider.to_owned() } else { String::new() };
    EXAMPLES.iter().filter(move |example| example.provider == wanted)
}

fn kind_of(body: &[u8]) -> &'static str {
    if serde_json::from_slice::<Value>(body).is_ok() {
        JSON
    } else if body.contains(&b'=') && body.iter().all(u8::is_ascii_graphic) {
        FORM
    } else {
        "application/octet-stream"
    }
}

/// Writes a value to the first of the places if none of them has one. A given body is left as it is.
fn filled(
    mut request: SampleRequest,
    places: &[Template],
    wanted: Wanted<'_>,
    value: impl Fn() -> String,
) -> SampleRequest {
    if places.iter().any(|template| renders(&request, template)) {
        return request;
    }
    for place in places.first().into_iter().flat_map(places_of) {
        let is_mine = wanted.body.is_none() || !place.reads_body();
        let optional = matches!(place, Reference::Json { optional: true, .. });
        if is_mine && !optional && request.text(&place).is_none() {
            // A place that cannot be written has no value, which the reader allows.
            let _ = request.set(&place, &value());
        }
    }
    request
}

/// The places that a template reads; of a list of items those of the first.
fn places_of(template: &Template) -> Vec<Reference> {
    let places = template.references().map(|reference| {
        if let Reference::Function(Function::Items(items)) = reference {
            return items.first_fields();
        }
        vec![reference.clone()]
    });
    places.flatten().collect()
}

fn renders(request: &SampleRequest, template: &Template) -> bool {
    template.references().all(|reference| request.text(reference).is_some())
}

/// The request with a text in the places that a template reads; `None` if the text does not fit the template. Headers
/// that contain the old type are changed as well.
fn write(request: &SampleRequest, template: &Template, text: &str, old: Option<&str>) -> Option<SampleRequest> {
    let mut written = request.clone();
    for (_, value) in written.headers.iter_mut().filter(|(_, value)| Some(value.as_str()) == old) {
        text.clone_into(value);
    }
    for (place, value) in assign(template, text)? {
        written.set(place, value).ok()?;
    }
    Some(written)
}

/// The values that the references of a template need for it to give this text. A literal is searched from the end.
fn assign<'t>(template: &'t Template, text: &'t str) -> Option<Vec<(&'t Reference, &'t str)>> {
    let mut values = Vec::new();
    let (mut rest, mut open) = (text, None);
    for part in template.parts().iter().rev() {
        match (part, open.take()) {
            (Part::Reference(reference), None) => open = Some(reference),
            (Part::Reference(_), Some(_)) => return None,
            (Part::Literal(literal), None) => rest = rest.strip_suffix(literal.as_str())?,
            (Part::Literal(literal), Some(reference)) => {
                let (before, value) = rest.rsplit_once(literal.as_str())?;
                values.push((reference, value));
                rest = before;
            }
        }
    }
    match open {
        Some(reference) => values.push((reference, rest)),
        None if !rest.is_empty() => return None,
        None => {}
    }
    values.iter().all(|(_, value)| !value.is_empty()).then_some(values)
}

fn read_from(provider: &str, places: &[Template]) -> String {
    match places {
        [] => format!("the events of {provider} have none"),
        places => {
            let places: Vec<_> = places.iter().map(Template::to_string).collect();
            format!("for {provider}, it is read from {}", places.join(" or "))
        }
    }
}
