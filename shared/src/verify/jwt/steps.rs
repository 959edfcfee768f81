//! The steps of verifying a JSON Web Token.

use super::{JwtVerifier, Keys};
use crate::verify::Incoming;
use crate::verify::request::{Joins, View};
use crate::verify::trace::{Step, StepKind};

impl JwtVerifier {
    pub(in crate::verify) fn steps(&self, incoming: &Incoming<'_>) -> Vec<Step> {
        let rule = &self.rule;
        let algorithms: Vec<_> = rule.algorithms.iter().map(|algorithm| algorithm.name()).collect();
        let read = Step::new(
            StepKind::Token,
            format!(
                "a JSON Web Token in {}, of {}, with the claims of the scheme",
                rule.token.place,
                algorithms.join(" or ")
            ),
        );
        let keys = match &self.keys {
            Keys::Secrets(_) => "a secret of the source",
            Keys::Published { .. } | Keys::Plaid { .. } => "a public key of the provider",
        };
        let signature = Step::new(StepKind::Signature, format!("a token that is signed with {keys} and valid now"));
        let view = View::new(incoming.request, incoming.body, &rule.settings);
        let text = view.text(&rule.token.place, Joins::Refused);
        match text.and_then(|text| self.read(&text, &view).map(drop)) {
            Ok(()) => vec![read.passed("a token"), signature.compared(&self.verify(incoming))],
            Err(rejection) => vec![read.failed(&rejection), signature.unknown("there is no token to compare")],
        }
    }
}
