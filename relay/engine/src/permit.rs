//! For destinations with a slow rate, the time of a send is stored before the send: then a rate of one per hour is kept
//! even if the relay is killed between the send and the next report.

use super::tuning::PERMIT_US;

/// Whether the next send has been stored. Times are microseconds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Permit {
    #[default]
    None,
    /// The permit is to be stored, or is being stored.
    Asked { at_us: u64, is_reported: bool },
    /// The permit has been stored: one delivery may be sent until [`PERMIT_US`] after the permit was requested.
    Given { at_us: u64 },
}

impl Permit {
    /// Uses the permit. If there is no valid one, requests one.
    pub(super) fn take(&mut self, now_us: u64) -> bool {
        match *self {
            Self::Given { at_us } if now_us <= at_us + PERMIT_US => {
                *self = Self::None;
                true
            }
            Self::Given { .. } | Self::None => {
                *self = Self::Asked { at_us: now_us, is_reported: false };
                false
            }
            Self::Asked { .. } => false,
        }
    }

    /// Whether a report is needed to store the permit.
    pub(super) fn is_to_be_reported(&self) -> bool {
        matches!(self, Self::Asked { is_reported: false, .. })
    }

    /// Marks the permit as reported. Returns when it was requested, if the report stores one.
    pub(super) fn reported(&mut self) -> Option<u64> {
        match self {
            Self::Asked { at_us, is_reported } => {
                *is_reported = true;
                Some(*at_us)
            }
            Self::None | Self::Given { .. } => None,
        }
    }

    /// The permit that was requested at `asked_us` has been stored.
    pub(super) fn stored(&mut self, asked_us: u64) {
        if matches!(self, Self::Asked { at_us, .. } if *at_us == asked_us) {
            *self = Self::Given { at_us: asked_us };
        }
    }

    /// The latest time at which the permit allows a send: it is stored as the time of the last send.
    pub(super) fn until_us(&self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Asked { at_us, .. } | Self::Given { at_us } => Some(at_us + PERMIT_US),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_US: u64 = 1_764_000_000_000_000;

    #[test]
    fn a_permit_is_used_once_it_has_been_stored_and_not_after_it_has_expired() {
        let mut permit = Permit::default();
        assert!(!permit.take(AT_US));
        assert!(permit.is_to_be_reported());
        assert_eq!((permit.reported(), permit.until_us()), (Some(AT_US), Some(AT_US + PERMIT_US)));
        assert!(!permit.is_to_be_reported() && !permit.take(AT_US + 1), "it is not stored yet");
        permit.stored(AT_US - 1);
        assert!(!permit.take(AT_US + 1), "that was another permit");
        permit.stored(AT_US);
        assert!(permit.take(AT_US + PERMIT_US));
        assert_eq!(permit, Permit::None);

        assert!(!permit.take(AT_US));
        permit.reported();
        permit.stored(AT_US);
        assert!(!permit.take(AT_US + PERMIT_US + 1), "too late: a new one is requested");
        assert!(permit.is_to_be_reported());
    }
}
