//! Makes a verifier: assigns secrets to rules, and refuses schemes that would verify too little.

use super::jwt::JwtVerifier;
use super::key::{KeyError, RefusedSecret};
use super::mac::MacVerifier;
use super::token::Hashes;
use super::{Check, ConfigError};
use crate::scheme::key_encoding::KeyEncoding;
use crate::scheme::rule::{Algorithm, Scheme};
use crate::secret::Secret;

/// The checks of a scheme, of which one has to pass.
pub(super) fn checks(scheme: &Scheme, secrets: &[Secret]) -> Result<(Check, Vec<Check>), ConfigError> {
    match scheme {
        Scheme::AnyOf { rules } => any_of(rules, secrets),
        Scheme::AllOf { rules } => Ok((all_of(rules, secrets)?, Vec::new())),
        Scheme::Mac(_) | Scheme::Jwt(_) | Scheme::Token(_) | Scheme::Basic | Scheme::None => {
            Ok((single(scheme, secrets)?, Vec::new()))
        }
    }
}

/// A rule on its own: every secret must fit it.
fn single(rule: &Scheme, secrets: &[Secret]) -> Result<Check, ConfigError> {
    let (check, refused) = one(rule, &numbered(secrets))?;
    if let Some(refused) = refused.first() {
        return Err(ConfigError::Secret { index: refused.secret, why: refused.why.to_string() });
    }
    if is_without_key(&check) { Err(ConfigError::NoSecret) } else { Ok(check) }
}

/// Alternatives: every secret must fit at least one of them, and rules without a secret are left out.
fn any_of(rules: &[Scheme], secrets: &[Secret]) -> Result<(Check, Vec<Check>), ConfigError> {
    refuse_downgrade(rules)?;
    refuse_two_locations(rules)?;
    refuse_plain_public_key(rules)?;
    let secrets = numbered(secrets);
    let mut checks = deal(rules, |_| secrets.clone(), secrets.len())?;
    checks.retain(|check| !is_without_key(check));
    let mut checks = checks.into_iter();
    let first = checks.next().ok_or(ConfigError::NoSecret)?;
    Ok((first, checks.collect()))
}

/// Rules that must all hold: every secret must fit at least one of them, and each of them needs one.
///
/// A `user:password` belongs to the Basic rule alone. Such credentials are sent in the clear with every request, so
/// they may not be a key of another rule.
fn all_of(rules: &[Scheme], secrets: &[Secret]) -> Result<Check, ConfigError> {
    if rules.is_empty() {
        return Err(ConfigError::Rule {
            why: "internal error in the provider catalogue: all_of has no rules".to_owned(),
        });
    }
    if rules.iter().any(|rule| matches!(rule, Scheme::None)) {
        return Err(ConfigError::Rule {
            why: "internal error in the provider catalogue: `none` cannot be combined with other rules in all_of"
                .to_owned(),
        });
    }
    refuse_two_locations(rules)?;
    refuse_plain_public_key(rules)?;
    let all = numbered(secrets);
    let mut others = all.clone();
    if rules.iter().any(is_basic) {
        others.retain(|(_, secret)| !is_credentials(secret.reveal()));
    }
    let dealt = |rule: &Scheme| if is_basic(rule) { all.clone() } else { others.clone() };
    let checks = deal(rules, dealt, secrets.len())?;
    if checks.iter().any(is_without_key) { Err(ConfigError::NoSecret) } else { Ok(Check::All(checks)) }
}

/// Assigns the secrets to the rules. A secret that is refused by every rule it was offered to is an error.
fn deal<'s>(
    rules: &[Scheme],
    dealt: impl Fn(&Scheme) -> Vec<(usize, &'s Secret)>,
    secrets: usize,
) -> Result<Vec<Check>, ConfigError> {
    let mut checks = Vec::with_capacity(rules.len());
    let mut reasons: Vec<Vec<String>> = vec![Vec::new(); secrets];
    let mut takers = vec![0; secrets];
    for rule in rules {
        let given = dealt(rule);
        let (check, refused) = one(rule, &given)?;
        for (secret, _) in given {
            takers.get_mut(secret).into_iter().for_each(|takers| *takers += 1);
        }
        for RefusedSecret { secret, why } in refused {
            reasons.get_mut(secret).into_iter().for_each(|reasons| reasons.push(why.to_string()));
        }
        checks.push(check);
    }
    let refused_by_all = reasons.iter().zip(&takers).position(|(reasons, takers)| reasons.len() == *takers);
    if let Some(index) = refused_by_all {
        let why = reasons.get(index).map(|reasons| reasons.join("; or ")).unwrap_or_default();
        return Err(ConfigError::Secret { index, why });
    }
    Ok(checks)
}

fn one(rule: &Scheme, secrets: &[(usize, &Secret)]) -> Result<(Check, Vec<RefusedSecret>), ConfigError> {
    Ok(match rule {
        Scheme::Mac(rule) => {
            let (mac, refused) = MacVerifier::new(rule, secrets)?;
            (Check::Mac(Box::new(mac)), refused)
        }
        Scheme::Jwt(rule) => {
            let (jwt, refused) = JwtVerifier::new(rule, secrets)?;
            (Check::Jwt(Box::new(jwt)), refused)
        }
        Scheme::Token(rule) => {
            // A public key is not a token either.
            let (hashes, refused) = hashes(secrets, |secret| KeyEncoding::Utf8.hmac_key(secret).err());
            (Check::Token(rule.clone(), hashes), refused)
        }
        Scheme::Basic => {
            let expected = KeyError::Encoding { expected: "user:password" };
            let (hashes, refused) = hashes(secrets, |secret| (!is_credentials(secret)).then(|| expected.clone()));
            (Check::Basic(hashes), refused)
        }
        Scheme::None => (Check::None, hashes(secrets, |_| Some(KeyError::NotUsed)).1),
        Scheme::AnyOf { .. } | Scheme::AllOf { .. } => {
            return Err(ConfigError::Rule { why: "a list of rules cannot contain another list".to_owned() });
        }
    })
}

fn hashes(secrets: &[(usize, &Secret)], fault: impl Fn(&str) -> Option<KeyError>) -> (Hashes, Vec<RefusedSecret>) {
    let mut usable = Vec::with_capacity(secrets.len());
    let mut refused = Vec::new();
    for (secret, text) in secrets {
        match fault(text.reveal()) {
            None => usable.push((*secret, *text)),
            Some(why) => refused.push(RefusedSecret { secret: *secret, why }),
        }
    }
    (Hashes::new(&usable), refused)
}

fn is_without_key(check: &Check) -> bool {
    match check {
        Check::Mac(mac) => mac.key_count() == Some(0),
        Check::Jwt(jwt) => jwt.is_without_key(),
        Check::Token(_, secrets) | Check::Basic(secrets) => secrets.is_empty(),
        Check::All(checks) => checks.iter().any(is_without_key),
        Check::None | Check::AwaitsSecret => false,
    }
}

/// Refuses an alternative that is weaker than the others: a forger would choose it.
fn refuse_downgrade(rules: &[Scheme]) -> Result<(), ConfigError> {
    for (weak, name) in [(Algorithm::HmacSha1, "hmac-sha1"), (Algorithm::Sha256, "a plain sha256")] {
        let is_weak = |rule: &Scheme| matches!(rule, Scheme::Mac(mac) if mac.algorithm == weak);
        if rules.iter().any(is_weak) && !rules.iter().all(is_weak) {
            return Err(ConfigError::Rule { why: format!("{name} cannot be an alternative to a stronger algorithm") });
        }
    }
    if rules.iter().any(|rule| matches!(rule, Scheme::None)) {
        return Err(ConfigError::Rule { why: "none cannot be an alternative to a signature".to_owned() });
    }
    Ok(())
}

/// A request comes with one set of published keys. With two locations, the keys of one would be used for the other.
fn refuse_two_locations(rules: &[Scheme]) -> Result<(), ConfigError> {
    let mut locations = rules.iter().filter_map(Scheme::published_keys);
    let first = locations.next();
    if locations.all(|location| Some(location) == first) {
        return Ok(());
    }
    Err(ConfigError::Rule { why: "all rules of a list must take their published keys from the same place".to_owned() })
}

/// A public key in plain hexadecimal or base64 looks like a secret, so another rule of the list would take it as one.
fn refuse_plain_public_key(rules: &[Scheme]) -> Result<(), ConfigError> {
    let is_plain = |rule: &Scheme| match rule {
        Scheme::Mac(mac) => {
            mac.algorithm.of_public_key().is_some()
                && matches!(mac.key_encoding, KeyEncoding::Hex | KeyEncoding::Base64)
        }
        Scheme::Jwt(_)
        | Scheme::Token(_)
        | Scheme::Basic
        | Scheme::None
        | Scheme::AnyOf { .. }
        | Scheme::AllOf { .. } => false,
    };
    if rules.iter().any(is_plain) && !rules.iter().all(is_plain) {
        let why = "a public key in hex or base64 could be mistaken for the secret of another rule of the list";
        return Err(ConfigError::Rule { why: why.to_owned() });
    }
    Ok(())
}

fn is_basic(rule: &Scheme) -> bool {
    matches!(rule, Scheme::Basic)
}

fn is_credentials(secret: &str) -> bool {
    secret.contains(':')
}

fn numbered(secrets: &[Secret]) -> Vec<(usize, &Secret)> {
    secrets.iter().enumerate().collect()
}
