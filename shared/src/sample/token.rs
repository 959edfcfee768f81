//! Putting a shared secret into a request.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{SampleRequest, SignError};
use crate::scheme::key_encoding::KeyEncoding;
use crate::scheme::rule::TokenRule;
use crate::secret::Secret;
use crate::verify::key::KeyError;

pub(super) fn sign_token(
    rule: &TokenRule,
    secret: &Secret,
    mut request: SampleRequest,
) -> Result<SampleRequest, SignError> {
    KeyEncoding::Utf8.hmac_key(secret.reveal())?;
    let blank = if rule.prefix.ends_with(|last: char| last.is_ascii_alphanumeric()) { " " } else { "" };
    let value = format!("{}{blank}{}", rule.prefix, secret.reveal());
    for item in super::mac::items(rule.each.as_ref(), &request)? {
        request.set(&item.place(&rule.place), &value)?;
    }
    Ok(request)
}

pub(super) fn sign_basic(secret: &Secret, mut request: SampleRequest) -> Result<SampleRequest, SignError> {
    if !secret.reveal().contains(':') {
        return Err(KeyError::Encoding { expected: "user:password" }.into());
    }
    request.set_header("authorization", &format!("Basic {}", BASE64.encode(secret.reveal())));
    Ok(request)
}
