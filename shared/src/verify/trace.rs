//! Verifies a request step by step, for the owner of a source who wants to know why one is refused.
//!
//! A step says what the scheme expects and what the request has, also if an earlier step has failed: a signature may
//! match although its time is too old. It contains values of the request, and names of settings. It never contains a
//! secret, a key, or the signature that would be right: with that anyone could send any request in the provider's name.

use crate::scheme::reference::Reference;
use crate::scheme::rule::TimestampUnit;

use super::key_set::KeySet;
use super::rejection::Rejection;
use super::request::RequestParts;
use super::token::{verify_basic, verify_token};
use super::{Check, Incoming, Verified, Verifier};

/// The most bytes of signed content that a step has.
pub const MAX_SIGNED_PREVIEW_BYTES: usize = 4_096;

/// The steps of one rule of a scheme, and its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleTrace {
    pub steps: Vec<Step>,
    pub result: Result<Verified, Rejection>,
}

/// One step of a verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub kind: StepKind,
    pub state: StepState,
    /// What the scheme expects.
    pub expected: String,
    /// What the request has.
    pub found: String,
    /// The content that is signed, for [`StepKind::SignedContent`].
    pub signed: Option<SignedContent>,
    /// The signed time, for [`StepKind::Timestamp`], if it could be read.
    pub time: Option<SignedTime>,
    /// The index of the secret that matched, for [`StepKind::Signature`] and [`StepKind::Credential`].
    pub secret: Option<usize>,
}

/// What a step looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepKind {
    /// The signatures of the request can be read.
    SignatureForm,
    /// The signed time is near to now.
    Timestamp,
    /// A signed value equals a setting of the source.
    Requirement,
    /// The content that is signed is there.
    SignedContent,
    /// A signature matches a secret or a key.
    Signature,
    /// The request carries a secret.
    Credential,
    /// The request carries a JSON Web Token that the scheme accepts.
    Token,
    /// Nothing is verified.
    Nothing,
}

/// Whether a step holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepState {
    Passed,
    Failed,
    /// It needs what an earlier step did not find, or what only the edge has.
    Unknown,
}

/// The content that is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedContent {
    /// The beginning, at most [`MAX_SIGNED_PREVIEW_BYTES`]. A secret in it is replaced by `{secret}`.
    pub preview: Vec<u8>,
    /// The size of the whole content in bytes.
    pub size: usize,
}

/// A signed time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedTime {
    /// Unix time in milliseconds.
    pub at_ms: u64,
    /// How many seconds it is before now; negative if it is after now.
    pub skew_s: i64,
    /// How many seconds are accepted; `None` if any time is.
    pub tolerance_s: Option<u32>,
}

impl Step {
    pub(super) fn new(kind: StepKind, expected: impl Into<String>) -> Self {
        Self {
            kind,
            state: StepState::Unknown,
            expected: expected.into(),
            found: String::new(),
            signed: None,
            time: None,
            secret: None,
        }
    }

    pub(super) fn passed(self, found: impl Into<String>) -> Self {
        Self { state: StepState::Passed, found: found.into(), ..self }
    }

    pub(super) fn failed(self, rejection: &Rejection) -> Self {
        Self { state: StepState::Failed, found: rejection.detail(), ..self }
    }

    pub(super) fn unknown(self, found: impl Into<String>) -> Self {
        Self { state: StepState::Unknown, found: found.into(), ..self }
    }

    /// The step of a comparison with the secrets, by its result.
    pub(super) fn compared(self, result: &Result<Verified, Rejection>) -> Self {
        match result {
            Ok(verified) => Self { secret: verified.which(), ..self.passed("matches") },
            Err(rejection) if rejection.is_ours() => self.unknown(rejection.detail()),
            Err(rejection) => self.failed(rejection),
        }
    }
}

impl Verifier {
    /// The steps of each rule, of which one has to hold. Rules that have to hold together are one. The arguments are
    /// those of [`super::verify`].
    #[must_use]
    pub fn trace(&self, keys: Option<&KeySet>, request: &RequestParts<'_>, body: &[u8], now_ms: u64) -> Vec<RuleTrace> {
        let incoming = Incoming { keys, request, body, now_ms, on_stale: self.on_stale };
        let checks = std::iter::once(&self.first).chain(&self.others);
        checks.map(|check| RuleTrace { steps: check.steps(&incoming), result: check.verify(&incoming) }).collect()
    }
}

impl Check {
    fn steps(&self, incoming: &Incoming<'_>) -> Vec<Step> {
        match self {
            Self::Mac(mac) => mac.steps(incoming),
            Self::Jwt(jwt) => jwt.steps(incoming),
            Self::Token(rule, secrets) => {
                let prefix = if rule.prefix.is_empty() { String::new() } else { format!(" after {}", rule.prefix) };
                let step = Step::new(StepKind::Credential, format!("a secret of the source in {}{prefix}", rule.place));
                vec![step.compared(&verify_token(rule, secrets, incoming.request, incoming.body))]
            }
            Self::Basic(secrets) => {
                let place = Reference::Header("authorization".to_owned());
                let step = Step::new(StepKind::Credential, format!("Basic credentials of the source in {place}"));
                vec![step.compared(&verify_basic(secrets, incoming.request, incoming.body))]
            }
            Self::None => vec![Step::new(StepKind::Nothing, "nothing: the source does not verify").passed("")],
            Self::AwaitsSecret => {
                let step = Step::new(StepKind::Signature, "the secret that the provider hands over to the source");
                vec![step.unknown(Rejection::SecretAwaited.detail())]
            }
            Self::All(checks) => checks.iter().flat_map(|check| check.steps(incoming)).collect(),
        }
    }
}

/// How a timestamp is written, in words.
pub(super) fn unit(unit: TimestampUnit) -> &'static str {
    match unit {
        TimestampUnit::Seconds => "Unix time in seconds",
        TimestampUnit::Milliseconds => "Unix time in milliseconds",
        TimestampUnit::Iso8601 => "RFC 3339",
    }
}

#[cfg(test)]
mod tests {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    use sha2::Sha256;

    use super::*;
    use crate::header::HeaderList;
    use crate::secret::Secret;

    const NOW_MS: u64 = 1_700_000_000_000;

    const MAC: &str = r#"{"kind":"mac","alg":"hmac-sha256","key":"utf8","content":"{sig:t}.{body}",
        "sig":{"in":"h:x-sign","enc":"hex","list":",","kv":"=","key":"v1"},
        "ts":{"in":"sig:t","unit":"s","tol":300}}"#;

    fn sign(secret: &str, time: &str, body: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key");
        mac.update(format!("{time}.{body}").as_bytes());
        format!("t={time},v1={}", hex::encode(mac.finalize().into_bytes()))
    }

    fn steps(scheme: &str, header: &str, value: &str, body: &str) -> Vec<Step> {
        let secrets = [Secret::new("new:a"), Secret::new("old:b")];
        let verifier = Verifier::of(&serde_json::from_str(scheme).expect("a scheme"), &secrets).expect("a verifier");
        let headers = HeaderList::new([(header, value)]);
        let request = RequestParts { method: "POST", url: "https://edge.example/in/a", query: "", headers: &headers };
        let mut rules = verifier.trace(None, &request, body.as_bytes(), NOW_MS);
        assert_eq!(rules.len(), 1);
        rules.remove(0).steps
    }

    fn states(steps: &[Step]) -> Vec<(StepKind, StepState)> {
        steps.iter().map(|step| (step.kind, step.state)).collect()
    }

    #[test]
    fn a_good_request_passes_each_step_and_names_the_secret_and_the_signed_content() {
        use StepKind::{Signature, SignatureForm, SignedContent, Timestamp};
        use StepState::Passed;
        let steps = steps(MAC, "x-sign", &sign("old:b", "1700000010", "{}"), "{}");
        assert_eq!(
            states(&steps),
            [(SignatureForm, Passed), (Timestamp, Passed), (SignedContent, Passed), (Signature, Passed)]
        );
        assert_eq!(steps[1].time.map(|time| (time.skew_s, time.tolerance_s)), Some((-10, Some(300))));
        let signed = steps[2].signed.clone().expect("content");
        assert_eq!((signed.preview.as_slice(), signed.size), (b"1700000010.{}".as_slice(), 13));
        assert_eq!(steps[3].secret, Some(1));
    }

    #[test]
    fn a_signature_is_compared_although_its_time_is_too_old() {
        let steps = steps(MAC, "x-sign", &sign("new:a", "1699990000", "{}"), "{}");
        let states: Vec<_> = steps.iter().map(|step| step.state).collect();
        assert_eq!(states, [StepState::Passed, StepState::Failed, StepState::Passed, StepState::Passed]);
        assert_eq!(steps[1].time.map(|time| time.skew_s), Some(10_000));
        assert!(steps[1].found.contains("10000 s old"), "{}", steps[1].found);
        assert_eq!(steps[3].secret, Some(0));
    }

    #[test]
    fn no_step_has_a_secret_or_the_right_signature() {
        let right = sign("new:a", "1700000000", "{}");
        let wrong = right.replace("v1=", "v1=00").chars().take(right.len()).collect::<String>();
        let digest = r#"{"kind":"mac","alg":"sha256","key":"utf8","content":"{secret}{body}","sig":{"in":"h:x-sign","enc":"hex"}}"#;
        for steps in [
            steps(MAC, "x-sign", &wrong, "{}"),
            steps(digest, "x-sign", &"00".repeat(32), "{}"),
            steps(r#"{"kind":"token","in":"h:x-sign"}"#, "x-sign", "guess", ""),
            steps(r#"{"kind":"basic"}"#, "authorization", "Basic Z3Vlc3M6eA==", ""),
        ] {
            let text = format!("{steps:?}");
            assert!(steps.iter().any(|step| step.state == StepState::Failed), "{text}");
            for hidden in ["new:a", "old:b", right.split("v1=").nth(1).expect("a signature")] {
                assert!(!text.contains(hidden), "{text}");
                let bytes = format!("{:?}", hidden.as_bytes());
                assert!(!text.contains(bytes.trim_matches(['[', ']'])), "{text}");
            }
        }
        let signed = steps(digest, "x-sign", &"00".repeat(32), "{}").remove(1).signed.expect("content");
        assert_eq!(signed.preview, b"{secret}{}");
    }

    #[test]
    fn what_a_missing_header_leaves_open_is_unknown() {
        let steps = steps(MAC, "x-other", "", "{}");
        assert_eq!((steps[0].state, steps[0].found.as_str()), (StepState::Failed, "header X-Sign is missing"));
        assert!(steps[1..].iter().all(|step| step.state == StepState::Unknown), "{steps:?}");
    }

    #[test]
    fn a_token_is_read_and_then_compared() {
        let jwt = r#"{"kind":"jwt","token":{"in":"h:authorization","strip":"Bearer"},"alg":["HS256"],"key":"utf8","max_age":300}"#;
        let steps = steps(jwt, "authorization", "Bearer a.b.c", "");
        assert_eq!(states(&steps)[0], (StepKind::Token, StepState::Failed));
        assert_eq!(states(&steps)[1], (StepKind::Signature, StepState::Unknown));
    }
}
