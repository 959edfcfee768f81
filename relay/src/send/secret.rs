//! The secret to sign with: given by the user, or opened if this process has the key.
//!
//! The API never returns a secret. A user who has the relay's database and master key can read every secret already, so
//! opening one here reveals nothing. It is used to sign and is not printed.

use shared::source::Secret;

use super::target::Target;
use crate::{config, secrets};

pub(super) async fn find(
    given: Option<&str>,
    target: &Target,
    var: impl Fn(&str) -> Option<String>,
) -> Result<Vec<Secret>, String> {
    let given = given.map(str::to_owned).or_else(|| var("TIDEGATE_SOURCE_SECRET"));
    if let Some(secret) = given.map(|text| Secret::new(&text)).filter(|secret| !secret.reveal().is_empty()) {
        return Ok(vec![secret]);
    }
    let vault = config::read_vault(var).map_err(|problems| {
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        problems.join("; ")
    })?;
    let (Some((url, keys)), Some(id)) = (vault, target.source) else {
        return Err(format!(
            "no secret to sign with: set TIDEGATE_SOURCE_SECRET or --secret, or use --source and set DATABASE_URL and \
             TIDEGATE_MASTER_KEY as for the relay. About the secret: {}",
            target.provider.secret_help.as_deref().unwrap_or("the source's secret")
        ));
    };
    let unreachable = |error: store::Error| {
        format!(
            "cannot read the secret from the database at DATABASE_URL: {error}; fix this, or set \
             TIDEGATE_SOURCE_SECRET"
        )
    };
    let pool = store::Pool::new(&url, 4).map_err(unreachable)?;
    let owner = store::customers::of_source(&pool, id).await.map_err(unreachable)?;
    let row = match owner {
        Some(owner) => store::sources::find(&pool, owner, Some(id), None).await.map_err(unreachable)?,
        None => None,
    };
    let row = row.ok_or(
        "the database at DATABASE_URL does not have this source; it is not the database of the relay at TIDEGATE_URL",
    )?;
    let opened = secrets::open_source_secrets(&keys, &row)
        .map_err(|error| format!("no key in TIDEGATE_MASTER_KEY decrypts the source's secret: {error}"))?;
    if opened.active.is_empty() {
        return Err(format!("the source has no secret yet; add one: POST /v1/sources/{id}/secrets"));
    }
    Ok(opened.active)
}
