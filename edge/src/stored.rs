//! The sealed value of a source's key in KV: its configuration or, after its deletion, a tombstone.
//!
//! KV has no compare-and-set, and its reads may be a minute old. Both values carry a revision, so that an older write
//! is refused if the newer one is visible. The relay reads back later, and repeats a write that an older one has
//! overwritten.

use serde::{Deserialize, Serialize};
use shared::seal::{self, SealError, SealingKey};
use shared::source::SourceConfig;

/// The value that is sealed under a source's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stored {
    Source(Box<SourceConfig>),
    Tombstone(Tombstone),
}

/// The rest of a deleted source: it answers like an unknown one, frees its name, and refuses older writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tombstone {
    /// The revision of the deletion: writes up to this one are older.
    pub(crate) deleted_at_revision: u64,
}

/// The value to replace is newer than the write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Older {
    /// The revision that is stored.
    pub(crate) stored: u64,
}

impl Stored {
    /// Opens and reads the value stored under `key`.
    ///
    /// # Errors
    /// Returns an error if it cannot be opened or read; the relay then has to write it again.
    pub(crate) fn open(keys: &[SealingKey], key: &str, sealed: &str) -> Result<Self, String> {
        let plain = seal::open(keys, key, sealed).map_err(|error: SealError| error.to_string())?;
        if let Ok(tombstone) = serde_json::from_slice(&plain) {
            return Ok(Self::Tombstone(tombstone));
        }
        serde_json::from_slice(&plain).map(|config| Self::Source(Box::new(config))).map_err(|error| error.to_string())
    }

    /// The configuration, unless the source was deleted.
    pub(crate) fn source(self) -> Option<SourceConfig> {
        match self {
            Self::Source(config) => Some(*config),
            Self::Tombstone(_) => None,
        }
    }
}

/// Checks whether a configuration of this revision may be written. The same revision may be written again, because the
/// relay repeats writes whose outcome it does not know. After a deletion only a newer one may be written.
///
/// # Errors
/// Returns an error if the stored revision is newer.
pub(crate) fn may_put(revision: u64, stored: Option<&Stored>) -> Result<(), Older> {
    match stored {
        Some(Stored::Source(config)) if config.revision > revision => Err(Older { stored: config.revision }),
        Some(Stored::Tombstone(Tombstone { deleted_at_revision: stored })) if *stored >= revision => {
            Err(Older { stored: *stored })
        }
        Some(Stored::Source(_) | Stored::Tombstone(_)) | None => Ok(()),
    }
}

/// The tombstone for a deletion at this revision. Without a revision, the stored value is deleted as it is.
///
/// # Errors
/// Returns an error if the stored configuration is newer than the deletion.
pub(crate) fn bury(revision: Option<u64>, stored: Option<&Stored>) -> Result<Tombstone, Older> {
    let deleted_at_revision = match (stored, revision) {
        (Some(Stored::Source(config)), Some(revision)) if config.revision > revision => {
            return Err(Older { stored: config.revision });
        }
        (Some(Stored::Tombstone(tombstone)), revision) => tombstone.deleted_at_revision.max(revision.unwrap_or(0)),
        (Some(Stored::Source(config)), None) => config.revision,
        (Some(Stored::Source(_)) | None, Some(revision)) => revision,
        (None, None) => 0,
    };
    Ok(Tombstone { deleted_at_revision })
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::id::SourceId;

    fn source(revision: u64) -> Stored {
        let id = SourceId::mint(1_764_000_000_000, [1; 10]);
        let config = format!(
            r#"{{"id":"{id}","name":"orders","revision":{revision},"provider":"test","scheme":{{"kind":"none"}},
                "secrets":[],"max_body_bytes":1000}}"#
        );
        Stored::Source(serde_json::from_str(&config).expect("a configuration"))
    }

    fn tombstone(revision: u64) -> Stored {
        Stored::Tombstone(Tombstone { deleted_at_revision: revision })
    }

    fn buried(revision: u64) -> Result<Tombstone, Older> {
        Ok(Tombstone { deleted_at_revision: revision })
    }

    #[test]
    fn an_older_revision_never_replaces_a_newer_one_and_the_same_one_is_a_repetition() {
        assert_eq!(may_put(1, None), Ok(()));
        assert_eq!(may_put(2, Some(&source(1))), Ok(()));
        assert_eq!(may_put(2, Some(&source(2))), Ok(()));
        assert_eq!(may_put(1, Some(&source(2))), Err(Older { stored: 2 }));
    }

    #[test]
    fn a_deleted_source_is_only_made_again_by_a_newer_revision() {
        assert_eq!(may_put(2, Some(&tombstone(3))), Err(Older { stored: 3 }));
        assert_eq!(may_put(3, Some(&tombstone(3))), Err(Older { stored: 3 }));
        assert_eq!(may_put(4, Some(&tombstone(3))), Ok(()));
    }

    #[test]
    fn a_deletion_replaces_an_older_value_and_keeps_the_highest_tombstone() {
        assert_eq!(bury(Some(2), None), buried(2), "nothing is seen: a write in flight may still arrive");
        assert_eq!(bury(Some(2), Some(&source(2))), buried(2));
        assert_eq!(bury(Some(2), Some(&source(1))), buried(2));
        assert_eq!(bury(Some(2), Some(&source(3))), Err(Older { stored: 3 }));
        assert_eq!(bury(Some(2), Some(&tombstone(3))), buried(3), "it is deleted already");
        assert_eq!(bury(Some(4), Some(&tombstone(3))), buried(4));
        assert_eq!(bury(None, Some(&source(3))), buried(3));
        assert_eq!(bury(None, Some(&tombstone(3))), buried(3));
        assert_eq!(bury(None, None), buried(0));
    }

    #[test]
    fn a_sealed_value_is_read_as_its_own_kind_and_nothing_else() {
        let key = SealingKey::parse("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=").expect("32 bytes");
        let sealed = |plain: &str| seal::seal(&key, "source/1", [7; 24], plain.as_bytes());
        let open = |sealed: &str| Stored::open(std::slice::from_ref(&key), "source/1", sealed);
        let Stored::Source(config) = source(3) else { panic!("is one") };
        assert_eq!(open(&sealed(&serde_json::to_string(&config).expect("is JSON"))), Ok(Stored::Source(config)));
        assert_eq!(open(&sealed(r#"{"deleted_at_revision":3}"#)), Ok(tombstone(3)));
        for damaged in [sealed("{}"), sealed(r#"{"deleted_at_revision":3,"name":"x"}"#), "s1.0.AAAA".to_owned()] {
            assert!(open(&damaged).is_err(), "{damaged}");
        }
    }
}
