//! What a change returns: the object, what became of it, and whether it is active everywhere.

use store::configuration::Version;
use time::OffsetDateTime;

use super::time::Timestamp;
use super::{Control, Error};

/// What became of the object of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It existed, and is changed.
    Updated,
    /// It is new.
    Created,
    /// It is saved, and not active everywhere yet. The relay makes it active by itself.
    Later,
}

/// Whether a saved change is active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Activity {
    /// Everywhere.
    Active,
    /// Not yet everywhere. The relay makes it active by itself.
    Later,
}

/// An object that a change has saved.
#[derive(Debug)]
pub struct Saved<T> {
    pub value: T,
    pub outcome: Outcome,
}

impl<T> Saved<T> {
    /// An object that is new or changed.
    pub(super) fn new(value: T, is_new: bool, activity: Activity) -> Self {
        let outcome = match (activity, is_new) {
            (Activity::Later, _) => Outcome::Later,
            (Activity::Active, true) => Outcome::Created,
            (Activity::Active, false) => Outcome::Updated,
        };
        Self { value, outcome }
    }
}

impl Outcome {
    /// Whether the change is active everywhere.
    #[must_use]
    pub const fn is_active(self) -> bool {
        !matches!(self, Self::Later)
    }
}

impl Activity {
    /// Whether the change is active everywhere.
    #[must_use]
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Active)
    }

    /// The later of the two.
    pub(super) fn and(self, other: Self) -> Self {
        if self == Self::Active { other } else { self }
    }
}

/// An object that callers configure. Its version is the time of its last change, which only grows.
pub trait Configured {
    /// When the object was last changed.
    fn changed_at(&self) -> Timestamp;
}

/// The version of an object that was last changed at this time. Two versions of an object have different texts.
#[must_use]
pub fn version(changed_at: OffsetDateTime) -> String {
    format!("{:x}", changed_at.unix_timestamp_nanos() / 1_000)
}

/// What the caller demands of the object that a change would replace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Precondition {
    /// The object has one of these versions.
    pub versions: Option<Vec<String>>,
    /// There is an object.
    pub exists: bool,
    /// There is no object.
    pub is_new: bool,
}

impl Precondition {
    /// Checks the object as it is now; `None` if there is none. It runs in the transaction of the change.
    ///
    /// # Errors
    /// Returns [`Error::Changed`] if the object is not as the caller demands.
    pub(super) fn check(&self, changed_at: Option<OffsetDateTime>) -> Result<(), Error> {
        let is_met = match changed_at {
            None => !self.exists && self.versions.is_none(),
            Some(_) if self.is_new => false,
            Some(at) => self.versions.as_ref().is_none_or(|versions| versions.contains(&version(at))),
        };
        if is_met { Ok(()) } else { Err(Error::Changed { exists: changed_at.is_some() }) }
    }
}

impl Control {
    /// Waits until this replica routes and delivers by a change. If the relay cannot read the change back in time, the
    /// change stays stored, and all replicas read it later.
    pub(super) async fn active(&self, version: Version) -> Activity {
        match self.configuration.after(version).await {
            Ok(_) => Activity::Active,
            Err(error) => {
                tracing::warn!(%error, "a change is saved but not active yet; the relay retries until it has read it");
                Activity::Later
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    #[test]
    fn a_precondition_is_met_by_the_version_that_it_names_and_by_nothing_else() {
        let of = |versions: &[&str]| Precondition {
            versions: Some(versions.iter().map(|version| (*version).to_owned()).collect()),
            ..Precondition::default()
        };
        let later = AT + time::Duration::microseconds(255);
        assert!(of(&["0", "ff"]).check(Some(AT)).is_ok() && of(&["ff"]).check(Some(later)).is_ok());
        assert!(of(&["ff"]).check(Some(AT)).is_err() && of(&[]).check(Some(AT)).is_err());
        assert!(of(&["0"]).check(None).is_err(), "there is nothing with that version");
        let none = Precondition::default();
        assert!(none.check(None).is_ok() && none.check(Some(AT)).is_ok());
        let new = Precondition { is_new: true, ..Precondition::default() };
        assert!(new.check(None).is_ok() && new.check(Some(AT)).is_err());
        let exists = Precondition { exists: true, ..Precondition::default() };
        assert!(exists.check(None).is_err() && exists.check(Some(AT)).is_ok());
    }
}
