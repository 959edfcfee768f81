//! Checks a request that a caller pastes against a source: each step of its verification, and what the edge would do
//! with it.
//!
//! The decision is that of the edge ([`shared::decision`]), made with the newest configuration of the source. Nothing
//! is stored. A response never has a secret, the signature that would be right, or the body of a handshake's reply,
//! which may be signed with a secret: with those a caller who may only read could send requests in the provider's name.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use model::unix_time;
use serde::Serialize;
use shared::decision::{Head, Outcome, Refusal, Source, acknowledged_status, whole};
use shared::envelope::Verification;
use shared::source::Secret;
use shared::verify::Rejection;
use shared::verify::trace::{self, SignedContent, SignedTime, Step, StepKind, StepState};
use utoipa::ToSchema;

use super::pasted::{self, CheckRequest};
use super::{EdgeState, SecretHint, find, hint};
use crate::control::error::Noun;
use crate::control::fields::Problems;
use crate::control::time::{Timestamp, read_ms};
use crate::control::{Actor, Control, Error, Scope};
use crate::edge::{name, push};
use crate::mint;

/// The result of checking a request.
#[derive(Debug, Serialize, ToSchema)]
pub struct SourceCheck {
    /// What the edge would do with the request.
    pub outcome: CheckOutcome,
    /// The status that the edge would return. Null if the edge alone can verify the request.
    #[schema(required = true)]
    pub status: Option<u16>,
    /// The code in the body of the response, if the edge would refuse the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "signature_refused")]
    pub code: Option<String>,
    /// Why the edge would refuse or quarantine the request. Absent if it would not, or if the request is too large.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub failure: Option<CheckFailure>,
    /// The secret that the request is signed with, or that it carries. Absent if none matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub secret: Option<SecretHint>,
    /// The rules of the scheme, of which one has to hold. Most schemes have one.
    pub rules: Vec<CheckRule>,
    /// What the usual causes of such a failure are, and what to do about them. Empty if the request verifies.
    pub hints: Vec<CheckHint>,
    /// The request as it was checked.
    pub request: CheckSubject,
    /// Whether the configuration with which the request was checked is active at the edge.
    pub edge: EdgeState,
}

/// What the edge would do with a request. `accepted`: it would be an event. `quarantined`: verification fails, and the
/// source would keep it. `refused`: it would not become an event. `handshake`: it would be answered, and is not an
/// event. `page`: it only reads, and would get the page of the source. `try_again`: the edge could not verify it now.
/// `unknown`: only the edge has the keys to verify it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckOutcome {
    Accepted,
    Quarantined,
    Refused,
    Handshake,
    Page,
    TryAgain,
    Unknown,
}

/// One rule of a scheme.
#[derive(Debug, Serialize, ToSchema)]
pub struct CheckRule {
    /// Whether the rule holds. Null if only the edge has the keys for it.
    #[schema(required = true)]
    pub holds: Option<bool>,
    /// The steps of its verification. Steps after a failed one are checked too, as far as they can be.
    pub steps: Vec<CheckStep>,
}

/// One step of a verification.
#[derive(Debug, Serialize, ToSchema)]
pub struct CheckStep {
    /// What the step looks at.
    pub kind: CheckStepKind,
    /// Whether the step holds.
    pub state: CheckStepState,
    /// What the scheme expects.
    pub expected: String,
    /// What the request has.
    pub found: String,
    /// The bytes that are signed. Only in the step `signed_content`, if they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub signed_content: Option<CheckContent>,
    /// The signed time. Only in the step `timestamp`, if it can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub time: Option<CheckTime>,
    /// The secret that matches. Only in the steps `signature` and `credential`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub secret: Option<SecretHint>,
}

/// What a step looks at. `signature_form`: the signatures of the request can be read. `timestamp`: the signed time is
/// near to the time of receipt. `requirement`: a signed value equals a setting of the source. `signed_content`: the
/// content that is signed is there. `signature`: a signature matches. `credential`: the request carries a secret.
/// `token`: the request carries a JSON Web Token. `nothing`: the source does not verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckStepKind {
    SignatureForm,
    Timestamp,
    Requirement,
    SignedContent,
    Signature,
    Credential,
    Token,
    Nothing,
}

/// Whether a step holds. `passed`: it does. `failed`: it does not. `unknown`: it needs what an earlier step did not
/// find, or what only the edge has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckStepState {
    Passed,
    Failed,
    Unknown,
}

/// The bytes that are signed. A secret among them is shown as `{secret}`.
#[derive(Debug, Serialize, ToSchema)]
pub struct CheckContent {
    /// The size of the whole content in bytes, without a secret.
    pub size: usize,
    /// Whether only the beginning is shown: 4 KiB.
    pub truncated: bool,
    /// The content, if it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub text: Option<String>,
    /// The content in base64, if it is not text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub base64: Option<String>,
}

/// A signed time.
#[derive(Debug, Serialize, ToSchema)]
pub struct CheckTime {
    /// The signed time.
    pub at: Timestamp,
    /// How many seconds it is before the time of receipt; negative if it is after it.
    pub skew_s: i64,
    /// How many seconds the scheme accepts; null if it accepts any time.
    #[schema(required = true)]
    pub tolerance_s: Option<u32>,
}

/// Why the edge would refuse or quarantine a request.
#[derive(Debug, Serialize, ToSchema)]
pub struct CheckFailure {
    /// A machine-readable code that does not change between versions, such as `signature_mismatch`.
    #[schema(example = "signature_mismatch")]
    pub cause: String,
    /// What is wrong, in words.
    pub detail: String,
}

/// A usual cause of a failure, and what to do about it.
#[derive(Debug, Serialize, ToSchema)]
pub struct CheckHint {
    /// A machine-readable code that does not change between versions.
    #[schema(example = "url_differs")]
    pub code: String,
    /// The cause and what to do.
    pub detail: String,
}

/// A request as it was checked.
#[derive(Debug, Serialize, ToSchema)]
pub struct CheckSubject {
    /// The HTTP method.
    pub method: String,
    /// The URL.
    pub url: String,
    /// The number of headers.
    pub headers: usize,
    /// The size of the body in bytes.
    pub body_size: usize,
    /// The time of receipt.
    pub received_at: Timestamp,
}

/// What a check needs, without access to anything else.
struct Subject {
    source: Source,
    /// The other URLs that the source has at the edge.
    urls: Vec<String>,
    head: Head,
    body: Vec<u8>,
    at_ms: u64,
    max_body_bytes: u64,
    edge: EdgeState,
}

/// Checks a request against a source. Nothing is stored.
///
/// # Errors
/// Returns every invalid field, or an error if the source does not exist, if its configuration cannot be used, or if a
/// query fails.
pub async fn check(control: &Control, actor: &Actor, id: &str, request: CheckRequest) -> Result<SourceCheck, Error> {
    actor.require(Scope::Read)?;
    let row = find(control, actor, id).await?;
    let mut problems = Problems::default();
    let at_ms = read_ms("received_at", request.received_at.as_deref(), &mut problems);
    let pasted = pasted::read(request, &mut problems);
    let pasted = problems.finish_with(pasted)?;
    let name = name::of(&control.pool, &row).await?.ok_or(Error::NotFound(Noun::Source))?;
    let unusable = |why: String| {
        let mut problems = Problems::default();
        problems.add("", format!("the source cannot verify any request: {why}"));
        problems.finish().err().unwrap_or(Error::Internal(why))
    };
    let config = push::config(&control.pusher, &row, &name).map_err(unusable)?;
    let config = push::with_refusal(&control.pusher, &row, config).await.map_err(Error::Unavailable)?;
    let source = Source::new(config).map_err(|error| unusable(error.to_string()))?;
    let edge = &control.pusher.edge;
    let urls = vec![edge.ingest_url(row.id), edge.ingest_url(&name)];
    let subject = Subject {
        head: pasted.head(&edge.ingest_url(row.id)),
        body: pasted.body,
        at_ms: at_ms.unwrap_or_else(mint::now_ms),
        max_body_bytes: control.config.max_body_bytes,
        edge: if row.edge_revision == row.revision { EdgeState::Active } else { EdgeState::Pending },
        source,
        urls,
    };
    // The signature of a large body takes milliseconds, several times.
    let checked = tokio::task::spawn_blocking(move || subject.check()).await;
    checked.map_err(|error| Error::Internal(error.to_string()))
}

impl Subject {
    fn check(self) -> SourceCheck {
        let Self { source, head, body, at_ms, max_body_bytes, .. } = &self;
        let secrets = &source.config.secrets;
        let outcome = whole(source, None, head, body, *at_ms, *max_body_bytes);
        let traced = source.verifier.trace(None, &head.parts(), body, *at_ms);
        let matched = traced.iter().find_map(|rule| rule.steps.iter().find_map(|step| step.secret));
        let keys_needed = traced.iter().any(|rule| rule.result == Err(Rejection::KeysUnavailable));
        let (verdict, status, code, rejection) = shown(&outcome, &source.config.acknowledgement, keys_needed);
        let hints = rejection.as_ref().map_or_else(Vec::new, |rejection| self.hints(rejection, &traced));
        SourceCheck {
            outcome: verdict,
            status,
            code: code.map(str::to_owned),
            failure: rejection
                .map(|rejection| CheckFailure { cause: rejection.code().to_owned(), detail: rejection.detail() }),
            secret: matched.and_then(|index| hint_of(secrets, index)),
            rules: traced.into_iter().map(|rule| rule_view(rule, secrets)).collect(),
            hints,
            request: CheckSubject {
                method: head.method.clone(),
                url: head.url.clone(),
                headers: head.headers.iter().len(),
                body_size: body.len(),
                received_at: Timestamp(unix_time::timestamp(*at_ms)),
            },
            edge: self.edge,
        }
    }

    /// The usual causes of a failure: those that are found by trying, and otherwise what can be compared.
    fn hints(&self, rejection: &Rejection, traced: &[trace::RuleTrace]) -> Vec<CheckHint> {
        let hint = |code: &str, detail: &str| CheckHint { code: code.to_owned(), detail: detail.to_owned() };
        let signature_matches = traced
            .iter()
            .flat_map(|rule| &rule.steps)
            .any(|step| step.kind == StepKind::Signature && step.state == StepState::Passed);
        match rejection {
            Rejection::HeaderMissing { .. } | Rejection::HeaderEmpty { .. } => vec![hint(
                "header_missing",
                "the sender does not sign its requests, it is another provider than that of the source, or something on \
                 the way removes the header; if you pasted only some of the headers, paste all of them",
            )],
            Rejection::TimestampOld { .. } | Rejection::TimestampFuture { .. } | Rejection::JwtExpired { .. } => {
                let signature = if signature_matches { "the signature itself matches; " } else { "" };
                vec![hint(
                    "time_differs",
                    &format!(
                        "{signature}to check a request that was received earlier, set received_at to that time; if the \
                         request is new, the clock of the sender is wrong, or the sender repeats an old request"
                    ),
                )]
            }
            Rejection::SecretRetired => {
                vec![hint(
                    "secret_retired",
                    "add the removed secret to the source again, or give the provider a current one",
                )]
            }
            Rejection::SecretWithWhiteSpace => vec![hint(
                "secret_with_white_space",
                "the sender uses the secret with a line feed or a blank at its end; remove that at the sender",
            )],
            Rejection::BodyRewritten { .. } => vec![hint(
                "body_rewritten",
                "something between the provider and here parses the body and writes it again; pass it on byte for byte. \
                 If you pasted the body from a tool that formats JSON, paste the original bytes",
            )],
            Rejection::SignatureMismatch { .. } => self.of_mismatch(),
            Rejection::TokenMismatch { .. } | Rejection::CredentialsMalformed => vec![hint(
                "secret_differs",
                "the request carries another secret than those of the source; compare the end of it with the hints of \
                 the source's secrets",
            )],
            Rejection::HeaderRepeated { .. }
            | Rejection::FieldMissing { .. }
            | Rejection::FieldRepeated { .. }
            | Rejection::SeparatorInside { .. }
            | Rejection::SignatureVersionMissing { .. }
            | Rejection::SignatureMalformed { .. }
            | Rejection::TooManySignatures { .. }
            | Rejection::TimestampMalformed { .. }
            | Rejection::RequirementFailed { .. }
            | Rejection::SecretAwaited
            | Rejection::KeysUnavailable
            | Rejection::KeyLocationRefused { .. }
            | Rejection::KeyUnknown
            | Rejection::KeyExpired
            | Rejection::JwtMalformed { .. }
            | Rejection::JwtAlgorithm
            | Rejection::JwtClaimMissing { .. }
            | Rejection::JwtClaimMismatch { .. }
            | Rejection::JwtNotYetValid { .. }
            | Rejection::MethodNotAllowed
            | Rejection::RateLimited { .. } => Vec::new(),
        }
    }

    /// Tries what often differs between the request that was signed and the one that was pasted.
    fn of_mismatch(&self) -> Vec<CheckHint> {
        let Self { source, head, body, at_ms, .. } = self;
        let holds = |head: &Head, body: &[u8]| {
            shared::verify::verify(&source.verifier, None, &head.parts(), body, *at_ms).is_ok()
        };
        let hint = |code: &str, detail: String| vec![CheckHint { code: code.to_owned(), detail }];
        let query = head.query();
        let at = |url: &String| {
            let url = if query.is_empty() { url.clone() } else { format!("{url}?{query}") };
            Head { url, ..head.clone() }
        };
        if let Some(other) = self.urls.iter().map(at).find(|other| holds(other, body)) {
            return hint(
                "url_differs",
                format!(
                    "the signature covers the URL {}, and the request was checked with another one; if a proxy changes the \
                     URL on the way, set public_url in the config of the source",
                    other.url
                ),
            );
        }
        for (form, other) in other_bodies(body) {
            if holds(head, &other) {
                return hint(
                    "body_differs",
                    format!("the signature matches the body {form}; the body was changed on its way or by pasting it"),
                );
            }
        }
        hint(
            "secret_or_body_differs",
            "compare the end of the provider's secret with the hints of the source's secrets (test and live mode, and \
             each endpoint, often have secrets of their own), and compare signed_content byte for byte with what the \
             provider signs"
                .to_owned(),
        )
    }
}

/// Forms of a body that pasting or a proxy often makes of the original, with what distinguishes the original.
fn other_bodies(body: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let Ok(text) = std::str::from_utf8(body) else { return Vec::new() };
    let unix = text.replace("\r\n", "\n");
    vec![
        ("with a line feed at its end", format!("{text}\n").into_bytes()),
        ("with CRLF as its line ends", unix.replace('\n', "\r\n").into_bytes()),
        ("with LF as its line ends", unix.into_bytes()),
    ]
}

/// The outcome, the status and the code of the response, and the cause of a failure.
fn shown(
    outcome: &Outcome,
    acknowledgement: &shared::source::Acknowledgement,
    keys_needed: bool,
) -> (CheckOutcome, Option<u16>, Option<&'static str>, Option<Rejection>) {
    let acknowledged = Some(acknowledged_status(acknowledgement));
    match outcome {
        Outcome::Accepted { verification: Verification::Failed(_), .. } => {
            (CheckOutcome::Quarantined, acknowledged, None, None)
        }
        Outcome::Accepted { reply, .. } => {
            let status = reply.as_ref().map_or(acknowledged, |reply| Some(reply.status));
            (CheckOutcome::Accepted, status, None, None)
        }
        Outcome::Quarantined { rejection } => (CheckOutcome::Quarantined, acknowledged, None, Some(rejection.clone())),
        Outcome::Replied(reply) | Outcome::Confirmed { reply, .. } | Outcome::SecretTaken { reply, .. } => {
            (CheckOutcome::Handshake, Some(reply.status), None, None)
        }
        Outcome::Page => (CheckOutcome::Page, Some(200), None, None),
        Outcome::Undecided if keys_needed => (CheckOutcome::Unknown, None, None, None),
        Outcome::Undecided => {
            (CheckOutcome::TryAgain, Some(Refusal::TRY_AGAIN.status), Some(Refusal::TRY_AGAIN.code), None)
        }
        Outcome::Refused { rejection, reply: Some(reply), .. } => {
            (CheckOutcome::Refused, Some(reply.status), None, rejection.clone())
        }
        Outcome::Refused { refusal, rejection, reply: None } => {
            (CheckOutcome::Refused, Some(refusal.status), Some(refusal.code), rejection.clone())
        }
    }
}

fn rule_view(rule: trace::RuleTrace, secrets: &[Secret]) -> CheckRule {
    let trace::RuleTrace { steps, result } = rule;
    let holds = match result {
        Ok(_) => Some(true),
        Err(rejection) if rejection.is_ours() => None,
        Err(_) => Some(false),
    };
    CheckRule { holds, steps: steps.into_iter().map(|step| step_view(step, secrets)).collect() }
}

fn step_view(step: Step, secrets: &[Secret]) -> CheckStep {
    let Step { kind, state, expected, found, signed, time, secret } = step;
    CheckStep {
        kind: match kind {
            StepKind::SignatureForm => CheckStepKind::SignatureForm,
            StepKind::Timestamp => CheckStepKind::Timestamp,
            StepKind::Requirement => CheckStepKind::Requirement,
            StepKind::SignedContent => CheckStepKind::SignedContent,
            StepKind::Signature => CheckStepKind::Signature,
            StepKind::Credential => CheckStepKind::Credential,
            StepKind::Token => CheckStepKind::Token,
            StepKind::Nothing => CheckStepKind::Nothing,
        },
        state: match state {
            StepState::Passed => CheckStepState::Passed,
            StepState::Failed => CheckStepState::Failed,
            StepState::Unknown => CheckStepState::Unknown,
        },
        expected,
        found,
        signed_content: signed.map(content_view),
        time: time.map(|SignedTime { at_ms, skew_s, tolerance_s }| CheckTime {
            at: Timestamp(unix_time::timestamp(at_ms)),
            skew_s,
            tolerance_s,
        }),
        secret: secret.and_then(|index| hint_of(secrets, index)),
    }
}

fn content_view(signed: SignedContent) -> CheckContent {
    let SignedContent { preview, size } = signed;
    let truncated = size > trace::MAX_SIGNED_PREVIEW_BYTES;
    // The preview of a text may end within a character.
    let text = match String::from_utf8(preview) {
        Ok(text) => Ok(text),
        Err(error) if truncated && error.utf8_error().error_len().is_none() => {
            let end = error.utf8_error().valid_up_to();
            let mut bytes = error.into_bytes();
            bytes.truncate(end);
            String::from_utf8(bytes).map_err(|error| error.into_bytes())
        }
        Err(error) => Err(error.into_bytes()),
    };
    let (text, base64) = match text {
        Ok(text) => (Some(text), None),
        Err(bytes) => (None, Some(BASE64.encode(bytes))),
    };
    CheckContent { size, truncated, text, base64 }
}

/// The hint of a secret. `None` if the index is that of a published key.
fn hint_of(secrets: &[Secret], index: usize) -> Option<SecretHint> {
    secrets.get(index).map(|secret| hint(secret.reveal()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_content_is_shown_as_text_if_it_is_text() {
        let of = |preview: &[u8], size| content_view(SignedContent { preview: preview.to_vec(), size });
        assert_eq!(of(b"t.{}", 4).text.as_deref(), Some("t.{}"));
        assert_eq!(of(&[0xff], 1).base64.as_deref(), Some("/w=="));
        let cut = of(&"é".as_bytes()[..1], 10_000);
        assert_eq!((cut.text.as_deref(), cut.truncated), (Some(""), true));
    }

    #[test]
    fn the_forms_of_a_body_differ_in_their_line_ends() {
        let forms: Vec<_> = other_bodies(b"a\r\nb").into_iter().map(|(_, body)| body).collect();
        assert_eq!(forms, [b"a\r\nb\n".to_vec(), b"a\r\nb".to_vec(), b"a\nb".to_vec()]);
        assert!(other_bodies(&[0xff]).is_empty());
    }
}
