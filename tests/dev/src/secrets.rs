//! The secrets of `cargo dev`. They are kept, because the database and KV are sealed with them.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use harness::error::{Doing as _, Result};
use harness::random;

/// The secrets, generated at the first start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Secrets {
    pub(super) admin_token: String,
    pub(super) master_key: String,
    pub(super) edge_admin_token: String,
    pub(super) seal_key: String,
    /// The secret that the demo signs with in the role of Stripe.
    pub(super) demo_stripe_secret: String,
}

impl Secrets {
    /// Reads the secrets from `file`, or generates and writes them if the file does not exist.
    pub(super) fn kept_in(file: &Path) -> Result<Self> {
        if let Ok(text) = std::fs::read(file) {
            return serde_json::from_slice(&text)
                .doing(|| format!("{} cannot be read; delete its folder to start afresh", file.display()));
        }
        let secrets = Self {
            admin_token: random_text("dev"),
            master_key: random::key(),
            edge_admin_token: random_text("edge"),
            seal_key: random::key(),
            demo_stripe_secret: random_text("whsec"),
        };
        write_private(file, &serde_json::to_vec_pretty(&secrets).doing(|| "secrets".to_owned())?)?;
        Ok(secrets)
    }
}

/// Writes a file that only its owner can read.
pub(super) fn write_private(file: &Path, content: &[u8]) -> Result<()> {
    let failed = || format!("cannot write {}", file.display());
    let mut options = std::fs::OpenOptions::new();
    let mut opened = options.create(true).truncate(true).write(true).mode(0o600).open(file).doing(failed)?;
    opened.write_all(content).doing(failed)
}

fn random_text(prefix: &str) -> String {
    format!("{prefix}_{}", random::text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_survive_a_second_start_and_are_readable_by_their_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = harness::place::temporary("secrets").expect("is created");
        let file = folder.join("secrets.json");
        let first = Secrets::kept_in(&file).expect("is created");
        assert_eq!(Secrets::kept_in(&file).expect("is read").master_key, first.master_key);
        let mode = std::fs::metadata(&file).expect("exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::remove_dir_all(folder).expect("is removed");
    }
}
