//! How the result of verifying an event again is written.

use crate::control::sources::{CheckOutcome, CheckStep, CheckStepKind, CheckStepState, SourceCheck};
use crate::dashboard::view::{self, Markup, Tone};

/// What the edge would do with the event now.
pub(super) fn badge(checked: &SourceCheck) -> Markup {
    let (tone, word) = match checked.outcome {
        CheckOutcome::Accepted => (Tone::Ok, "Accepted"),
        CheckOutcome::Quarantined => (Tone::Warn, "Quarantined"),
        CheckOutcome::Refused => (Tone::Danger, "Refused"),
        CheckOutcome::Handshake => (Tone::Quiet, "Handshake"),
        CheckOutcome::Page => (Tone::Quiet, "Page of the source"),
        CheckOutcome::TryAgain => (Tone::Warn, "Not verified now"),
        CheckOutcome::Unknown => (Tone::Quiet, "Only the edge can verify it"),
    };
    view::badge(tone, word)
}

/// What a step looks at.
pub(super) fn name(step: &CheckStep) -> &'static str {
    match step.kind {
        CheckStepKind::SignatureForm => "Form of the signature",
        CheckStepKind::Timestamp => "Signed time",
        CheckStepKind::Requirement => "Required value",
        CheckStepKind::SignedContent => "Signed content",
        CheckStepKind::Signature => "Signature",
        CheckStepKind::Credential => "Credential",
        CheckStepKind::Token => "Token",
        CheckStepKind::Nothing => "No verification",
    }
}

/// Whether a step holds.
pub(super) fn result(step: &CheckStep) -> Markup {
    let (tone, word) = match step.state {
        CheckStepState::Passed => (Tone::Ok, "Passed"),
        CheckStepState::Failed => (Tone::Danger, "Failed"),
        CheckStepState::Unknown => (Tone::Quiet, "Not known"),
    };
    view::badge(tone, word)
}
