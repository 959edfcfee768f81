//! The time of a send is stored before it is sent, for destinations whose rate is so slow that it matters: then a rate of one
//! per hour is kept although the relay is killed between the send and the next report.

use super::tuning::PERMIT_US;

/// Whether the next send has been stored. Times are microseconds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Permit {
    #[default]
    None,
    /// It is to be stored, or is being stored.
    Asked { at_us: u64, is_reported: bool },
    /// It has been stored: one may be sent until [`PERMIT_US`] after it was asked for.
    Given { at_us: u64 },
}

impl Permit {
    /// Uses the permit; if there is none that holds, asks for one.
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

    /// Whether a report is needed that stores it.
    pub(super) fn is_to_be_reported(&self) -> bool {
        matches!(self, Self::Asked { is_reported: false, .. })
    }

    /// A report is made: returns when the permit was asked for that it stores, if it stores one.
    pub(super) fn reported(&mut self) -> Option<u64> {
        match self {
            Self::Asked { at_us, is_reported } => {
                *is_reported = true;
                Some(*at_us)
            }
            Self::None | Self::Given { .. } => None,
        }
    }

    /// The permit that was asked for at `asked_us` has been stored.
    pub(super) fn stored(&mut self, asked_us: u64) {
        if matches!(self, Self::Asked { at_us, .. } if *at_us == asked_us) {
            *self = Self::Given { at_us: asked_us };
        }
    }

    /// The latest time at which one may be sent by it: what is stored as the time of the last send.
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
    fn a_permit_is_used_once_it_has_been_stored_and_not_after_its_time() {
        let mut permit = Permit::default();
        assert!(!permit.take(AT_US));
        assert!(permit.is_to_be_reported());
        assert_eq!((permit.reported(), permit.until_us()), (Some(AT_US), Some(AT_US + PERMIT_US)));
        assert!(!permit.is_to_be_reported() && !permit.take(AT_US + 1), "it is not stored yet");
        permit.stored(AT_US - 1);
        assert!(!permit.take(AT_US + 1), "that was another one");
        permit.stored(AT_US);
        assert!(permit.take(AT_US + PERMIT_US));
        assert_eq!(permit, Permit::None);

        assert!(!permit.take(AT_US));
        permit.reported();
        permit.stored(AT_US);
        assert!(!permit.take(AT_US + PERMIT_US + 1), "too late: it is asked for again");
        assert!(permit.is_to_be_reported());
    }
}
