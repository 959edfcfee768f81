//! Makes requests as providers send them: the inverse of [`crate::verify`].
//!
//! [`compose`] makes an event that looks like the provider's own, and [`sign`] signs it with the source's secret by the
//! rule that the source verifies by. Signatures with a provider's private key cannot be made.

mod event;
mod fresh;
mod jwt;
mod mac;
mod request;
mod token;

#[cfg(test)]
mod tests;

pub use event::{ComposeError, Wanted, compose, example_types};
pub use request::SampleRequest;

use crate::scheme::Scheme;
use crate::scheme::reference::Reference;
use crate::secret::Secret;
use crate::verify::Rejection;
use crate::verify::key::KeyError;
use fresh::Fresh;

/// The time of a sample, and the bytes that make it unique.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Unix time in milliseconds.
    pub now_ms: u64,
    /// Drawn anew for every sample; ids are derived from them.
    pub random: [u8; 32],
}

/// Why a request cannot be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    #[error("the provider signs with a private key that only it has")]
    PrivateKey,
    #[error("there is no secret to sign with")]
    NoSecret,
    #[error("the secret {0}")]
    Secret(#[from] KeyError),
    #[error("cannot set {reference} in the request: {why}")]
    NotWritable { reference: Reference, why: &'static str },
    #[error("the signed content cannot be read from the request: {0}")]
    Unreadable(String),
    #[error("the scheme signs forms, but the body is not a form")]
    NotAForm,
    #[error("no rule of the scheme can be signed with this secret")]
    NoRule,
}

/// Signs a request with the first of the secrets that the scheme accepts. Its time, and missing values that are signed,
/// are written into it first: into the headers, the query and, if the scheme reads them there, a JSON body.
///
/// # Errors
/// Returns an error if the scheme needs a private key or another secret, or if a value has no place in this request.
pub fn sign(
    scheme: &Scheme,
    secrets: &[Secret],
    request: SampleRequest,
    moment: Moment,
) -> Result<SampleRequest, SignError> {
    let fresh = Fresh::new(moment, "sign");
    sign_with(scheme, secrets, request, &fresh)
}

fn sign_with(
    scheme: &Scheme,
    secrets: &[Secret],
    request: SampleRequest,
    fresh: &Fresh,
) -> Result<SampleRequest, SignError> {
    match scheme {
        Scheme::None => Ok(request),
        Scheme::Mac(rule) if rule.algorithm.of_public_key().is_some() => Err(SignError::PrivateKey),
        Scheme::Mac(rule) => with_one(secrets, |secret| mac::sign(rule, secret, request.clone(), fresh)),
        Scheme::Jwt(rule) if !rule.algorithms.iter().any(|one| one.is_symmetric()) => Err(SignError::PrivateKey),
        Scheme::Jwt(rule) => with_one(secrets, |secret| jwt::sign(rule, secret, request.clone(), fresh)),
        Scheme::Token(rule) => with_one(secrets, |secret| token::sign_token(rule, secret, request.clone())),
        Scheme::Basic => with_one(secrets, |secret| token::sign_basic(secret, request.clone())),
        Scheme::AnyOf { rules } => {
            let signed = rules.iter().map(|rule| sign_with(rule, secrets, request.clone(), fresh));
            first_success(signed).unwrap_or(Err(SignError::NoRule))
        }
        Scheme::AllOf { rules } => {
            let has_basic = rules.iter().any(|rule| matches!(rule, Scheme::Basic));
            let (credentials, others): (Vec<_>, Vec<_>) =
                secrets.iter().cloned().partition(|secret| has_basic && secret.reveal().contains(':'));
            rules.iter().try_fold(request, |request, rule| {
                let dealt = if matches!(rule, Scheme::Basic) { &credentials } else { &others };
                sign_with(rule, dealt, request, fresh)
            })
        }
    }
}

impl From<Rejection> for SignError {
    fn from(rejection: Rejection) -> Self {
        Self::Unreadable(rejection.detail())
    }
}

fn with_one(
    secrets: &[Secret],
    sign: impl Fn(&Secret) -> Result<SampleRequest, SignError>,
) -> Result<SampleRequest, SignError> {
    first_success(secrets.iter().map(sign)).unwrap_or(Err(SignError::NoSecret))
}

/// The first success, else the first error that the user can fix; `None` if nothing was tried.
fn first_success(
    tried: impl Iterator<Item = Result<SampleRequest, SignError>>,
) -> Option<Result<SampleRequest, SignError>> {
    let mut failed = None;
    for outcome in tried {
        match outcome {
            Ok(request) => return Some(Ok(request)),
            Err(error) => match failed {
                None | Some(SignError::PrivateKey | SignError::NotAForm) => failed = Some(error),
                Some(_) => {}
            },
        }
    }
    failed.map(Err)
}
