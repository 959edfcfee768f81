//! The output for the user at the terminal.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use shared::sample::SampleRequest;
use shared::source::Secret;

use super::stored::Stored;
use super::target::Target;

/// How much of a response is shown, in characters.
const SHOWN_CHARACTERS: usize = 500;

/// The request without its body. A secret that is sent in plain text is not shown.
pub(super) fn sent(request: &SampleRequest, secrets: &[Secret]) -> String {
    let mut out = format!("{} {}", request.method, request.url);
    for (name, value) in &request.headers {
        out += &format!("\n  {name}: {}", without_secrets(value, secrets));
    }
    out + &format!("\n  ({} bytes of body)", request.body.len())
}

pub(super) fn answered(status: u16, after: Duration, body: &str) -> String {
    let reason =
        http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default();
    let shown: String = body.trim().chars().take(SHOWN_CHARACTERS).collect();
    format!("response: {status} {reason} after {} ms\n  {shown}", after.as_millis())
}

/// An event that the edge has accepted.
#[derive(Debug)]
pub(super) struct Accepted {
    /// Its id, if the response contains it.
    pub(super) event: Option<String>,
    /// The URL at which the API shows it.
    address: String,
    quarantines: bool,
}

impl Accepted {
    /// Tells the user where to find the event. `stored` says whether the relay has stored it; `None` if that was not
    /// checked.
    pub(super) fn describe(&self, stored: Option<&Stored>) -> String {
        let address = &self.address;
        let mut out = match stored {
            None => format!("event accepted; view it with GET {address}"),
            Some(Stored::Yes) => format!("event accepted and stored; view it with GET {address}"),
            Some(Stored::NotYet(last)) => format!(
                "the edge accepted the event, but the relay has not stored it yet (its last response: {last}); run \
                 `tidegate doctor` to check that the relay pulls the queue of this edge, then retry GET {address}"
            ),
        };
        if self.quarantines {
            out += "\n  this source also accepts events with an invalid signature and quarantines them; check the \
                    event's \"verification\"";
        }
        out
    }
}

/// Interprets the response of the edge.
///
/// # Errors
/// Returns why the event was refused, and what to do.
pub(super) fn accepted(status: u16, body: &str, target: &Target, relay: &str) -> Result<Accepted, String> {
    let rejections = match target.source {
        Some(source) => format!("GET {relay}/v1/rejections?source={source}"),
        None => format!("GET {relay}/v1/rejections"),
    };
    match status {
        200..=299 => {
            let id = serde_json::from_str::<Value>(body).ok().and_then(|body| Some(body["id"].as_str()?.to_owned()));
            let event = id.filter(|id| id.starts_with("evt_"));
            let address = match (&event, target.source) {
                (Some(id), _) => format!("{relay}/v1/events/{id}"),
                (None, Some(source)) => format!("{relay}/v1/events?source={source}"),
                (None, None) => format!("{relay}/v1/events"),
            };
            Ok(Accepted { event, address, quarantines: target.quarantines() })
        }
        401 => Err(format!(
            "the edge rejected the request (401): check that you signed with the source's secret; in a \
             few seconds, {rejections} shows the cause"
        )),
        404 => Err("the edge does not know this source (404): check that the source's `edge` is `active`, and that \
                    this edge belongs to the relay"
            .to_owned()),
        413 => Err("the body is larger than the source allows (413): raise its max_body_bytes, or send a smaller body"
            .to_owned()),
        503 => {
            Err("the edge is temporarily unavailable (503): retry in a moment, or run `tidegate doctor` to find the \
                 cause"
                .to_owned())
        }
        300..=399 => Err("the URL redirects, and redirects are not followed: pass the final URL with --url".to_owned()),
        other => Err(format!("the edge did not accept the event (status {other}); {rejections} may show the cause")),
    }
}

/// The command that sends the request from a terminal. `file` is the file from which the body was read.
///
/// # Errors
/// Returns an error if the body can neither be part of a command nor be read from a file by it.
pub(super) fn curl(request: &SampleRequest, file: Option<&str>) -> Result<String, String> {
    let quote = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let text = std::str::from_utf8(&request.body).ok().filter(|text| !text.contains('\0') && !text.starts_with('@'));
    let data = match (text, file.filter(|file| *file != "-")) {
        (Some(text), _) => quote(text),
        (None, Some(file)) => quote(&format!("@{file}")),
        (None, None) => {
            return Err(
                "the body is not text and cannot be part of a command: pass it as a file with --body".to_owned()
            );
        }
    };
    let mut command = format!("curl -i -X {} {}", request.method, quote(&request.url));
    for (name, value) in &request.headers {
        command += &format!(" \\\n  -H {}", quote(&format!("{name}: {value}")));
    }
    Ok(command + &format!(" \\\n  --data-binary {data}"))
}

fn without_secrets(value: &str, secrets: &[Secret]) -> String {
    secrets
        .iter()
        .map(Secret::reveal)
        .filter(|secret| !secret.is_empty())
        .fold(value.to_owned(), |value, secret| value.replace(&BASE64.encode(secret), "…").replace(secret, "…"))
}

#[cfg(test)]
mod tests {
    use shared::provider;

    use super::*;

    fn request(body: &[u8]) -> SampleRequest {
        let headers = [("authorization", "Bearer it's"), ("x-signature", "00ff")];
        SampleRequest {
            method: "POST".to_owned(),
            url: "http://127.0.0.1/in/a?b=c".to_owned(),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            body: body.to_vec(),
        }
    }

    fn target(config: Value) -> Target {
        let provider = provider::find("stripe").expect("in the catalogue");
        Target { source: None, provider, config, url: String::new() }
    }

    #[test]
    fn a_secret_in_plain_text_is_not_shown() {
        let shown = sent(&request(b"{}"), &[Secret::new("it's")]);
        assert_eq!(
            shown,
            "POST http://127.0.0.1/in/a?b=c\n  authorization: Bearer …\n  x-signature: 00ff\n  (2 bytes of body)"
        );
        assert_eq!(without_secrets("Basic dTpw", &[Secret::new("u:p")]), "Basic …");
    }

    #[test]
    fn the_curl_command_survives_quotes_and_bytes() {
        let command = curl(&request(b"it's"), None).expect("a command");
        assert!(command.starts_with("curl -i -X POST 'http://127.0.0.1/in/a?b=c'"), "{command}");
        assert!(command.ends_with(r"--data-binary 'it'\''s'"), "{command}");
        assert!(command.contains(r"-H 'authorization: Bearer it'\''s'"), "{command}");
        for bytes in [&b"\xff"[..], b"a\0", b"@file"] {
            let command = curl(&request(bytes), Some("a file")).expect("a command");
            assert!(command.ends_with("--data-binary '@a file'"), "{command}");
            assert!(curl(&request(bytes), Some("-")).is_err() && curl(&request(bytes), None).is_err());
        }
    }

    #[test]
    fn the_output_says_where_to_find_the_event_or_what_to_do() {
        let of = |status, body| {
            accepted(status, body, &target(Value::Null), "http://relay").map(|accepted| accepted.describe(None))
        };
        assert_eq!(
            of(200, r#"{"id":"evt_1"}"#).as_deref(),
            Ok("event accepted; view it with GET http://relay/v1/events/evt_1")
        );
        assert_eq!(of(200, "[accepted]").as_deref(), Ok("event accepted; view it with GET http://relay/v1/events"));
        for (status, what) in [
            (401, "check that you signed with the source's secret"),
            (404, "does not know this source"),
            (413, "larger"),
            (302, "--url"),
        ] {
            assert!(of(status, "").is_err_and(|error| error.contains(what)), "{status}");
        }
        assert!(of(418, "").is_err());
        let quarantine = target(serde_json::json!({ "on_failure": "quarantine" }));
        let event = accepted(200, r#"{"id":"evt_1"}"#, &quarantine, "http://relay").expect("the event is accepted");
        assert!(event.describe(None).contains("quarantine"));
        assert!(
            event
                .describe(Some(&Stored::Yes))
                .starts_with("event accepted and stored; view it with GET http://relay/v1/events/evt_1")
        );
        let not_yet = event.describe(Some(&Stored::NotYet("503".to_owned())));
        assert!(
            not_yet.contains("has not stored it yet (its last response: 503)") && not_yet.contains("doctor"),
            "{not_yet}"
        );
    }
}
