//! Bounds the bytes of bodies that this isolate holds at a time.
//!
//! An isolate has 128 MB for all its requests, and WebAssembly never releases memory. A body is therefore charged
//! before it is read, with the memory that it will take. Small bodies have a share of their own, so that large ones
//! never keep out a webhook of ordinary size. `small_bodies.js` counts the bodies that `entry.js` reads, in another
//! share.

use std::collections::HashMap;

/// Up to this size, in bytes, a body is charged to the share of small ones.
pub(super) const SMALL_BYTES: usize = 262_144;

/// The memory that small bodies may take together, in bytes.
const SMALL_SHARE: usize = 12_000_000;

/// The memory that large bodies may take together, in bytes: one of the largest and some others.
const LARGE_SHARE: usize = 36_000_000;

/// A small body is in memory three times: in the host, in Rust and in its message.
const COPIES_OF_SMALL: usize = 3;

/// The memory that every body takes in addition to its bytes, and that a large one takes for the pieces in which it is
/// read and stored, in bytes.
const FOR_ANY: usize = 4_096;
const FOR_LARGE: usize = 1_048_576;

/// The largest body that the budget can hold, in bytes.
pub(crate) const LARGEST_BYTES: u64 = (LARGE_SHARE - FOR_LARGE) as u64;

/// The longest time that a body is held, in milliseconds: longer than reading and storing one may take. The platform
/// can end a request silently, and then nothing else frees its body.
const HELD_AT_MOST_MS: u64 = 180_000;

/// The sizes that a body of unknown length is charged with, one after the other, before its cap.
const STEPS: [usize; 3] = [SMALL_BYTES, 2_097_152, 8_388_608];

/// A body that is held.
#[derive(Debug)]
struct Held {
    /// How many bytes it may have before it must be charged again.
    size: usize,
    until_ms: u64,
    bytes: Vec<u8>,
}

/// The bodies that are held, each under a number.
#[derive(Debug, Default)]
pub(super) struct Budget {
    held: HashMap<u64, Held>,
    /// The memory they take of each share, in bytes.
    small: usize,
    large: usize,
    next: u64,
}

/// The size that a body of unknown length is charged with once it has `bytes`; at most `cap`, which is not less than
/// `bytes`.
pub(super) fn step(bytes: usize, cap: usize) -> usize {
    STEPS.into_iter().find(|step| *step >= bytes).unwrap_or(cap).min(cap)
}

impl Budget {
    /// Charges a body of up to `size` bytes and returns the number under which it is held. `None` if there is no room.
    pub(super) fn admit(&mut self, size: usize, now_ms: u64) -> Option<u64> {
        if !self.fits(size) {
            self.forget_lapsed(now_ms);
        }
        if !self.fits(size) {
            return None;
        }
        self.charge(size);
        self.next += 1;
        self.held.insert(self.next, Held { size, until_ms: now_ms + HELD_AT_MOST_MS, bytes: Vec::new() });
        Some(self.next)
    }

    /// Raises the charge of a body to a larger size. Returns whether there is room.
    pub(super) fn grow(&mut self, id: u64, size: usize, now_ms: u64) -> bool {
        if self.grown(id, size) {
            return true;
        }
        self.forget_lapsed(now_ms);
        self.grown(id, size)
    }

    fn grown(&mut self, id: u64, size: usize) -> bool {
        let Some(before) = self.held.get(&id).map(|held| held.size) else { return false };
        self.discharge(before);
        let fits = self.fits(size);
        let charged = if fits { size } else { before };
        self.charge(charged);
        if let Some(held) = self.held.get_mut(&id) {
            held.size = charged;
        }
        fits
    }

    /// Frees a body and its charge.
    pub(super) fn release(&mut self, id: u64) {
        if let Some(held) = self.held.remove(&id) {
            self.discharge(held.size);
        }
    }

    /// The bytes of a body that have been read so far; `None` if it is no longer held.
    pub(super) fn bytes(&self, id: u64) -> Option<&[u8]> {
        self.held.get(&id).map(|held| held.bytes.as_slice())
    }

    /// Appends `count` zero bytes to a body and returns them. `None` if the body is no longer held, if they exceed its
    /// charge, or if there is no memory.
    pub(super) fn extend(&mut self, id: u64, count: usize) -> Option<&mut [u8]> {
        let held = self.held.get_mut(&id)?;
        let before = held.bytes.len();
        let after = before.checked_add(count).filter(|after| *after <= held.size)?;
        if after > held.bytes.capacity() {
            held.bytes.try_reserve_exact(held.size - before).ok()?;
        }
        held.bytes.resize(after, 0);
        held.bytes.get_mut(before..)
    }

    fn fits(&self, size: usize) -> bool {
        if is_small(size) { self.small + cost(size) <= SMALL_SHARE } else { self.large + cost(size) <= LARGE_SHARE }
    }

    fn charge(&mut self, size: usize) {
        *self.share(size) += cost(size);
    }

    fn discharge(&mut self, size: usize) {
        let share = self.share(size);
        *share = share.saturating_sub(cost(size));
    }

    fn share(&mut self, size: usize) -> &mut usize {
        if is_small(size) { &mut self.small } else { &mut self.large }
    }

    fn forget_lapsed(&mut self, now_ms: u64) {
        let lapsed: Vec<u64> =
            self.held.iter().filter(|(_, held)| held.until_ms <= now_ms).map(|(id, _)| *id).collect();
        lapsed.into_iter().for_each(|id| self.release(id));
    }
}

fn is_small(size: usize) -> bool {
    size <= SMALL_BYTES
}

/// The memory that a body of this size takes, in bytes.
fn cost(size: usize) -> usize {
    if is_small(size) { COPIES_OF_SMALL * size + FOR_ANY } else { size + FOR_LARGE }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_764_000_000_000;
    const LARGEST: usize = 25_000_000;

    #[test]
    fn large_bodies_are_bounded_and_leave_the_share_of_small_ones_alone() {
        let mut budget = Budget::default();
        let first = budget.admit(LARGEST, NOW).expect("one of the largest fits");
        assert_eq!(budget.admit(LARGEST, NOW), None);
        let admitted = (0..1_000).filter(|_| budget.admit(SMALL_BYTES, NOW).is_some()).count();
        assert!((10..50).contains(&admitted), "{admitted}");
        assert!(budget.admit(1_000_000, NOW).is_some(), "small bodies take nothing from the large ones");
        budget.release(first);
        budget.release(first);
        assert!(budget.admit(LARGEST, NOW).is_some());
        assert_eq!(budget.admit(LARGEST, NOW), None, "what is freed twice is counted once");
    }

    #[test]
    fn a_body_of_unknown_length_is_charged_step_by_step_and_keeps_its_charge_when_there_is_no_more() {
        assert_eq!(
            [1, SMALL_BYTES + 1, 3_000_000, 9_000_000].map(|bytes| step(bytes, LARGEST)),
            [SMALL_BYTES, 2_097_152, 8_388_608, LARGEST]
        );
        assert_eq!(step(1, 1_000), 1_000);
        let mut budget = Budget::default();
        let growing = budget.admit(step(1, LARGEST), NOW).expect("fits");
        assert!(budget.grow(growing, step(SMALL_BYTES + 1, LARGEST), NOW));
        let other = budget.admit(LARGEST, NOW).expect("fits");
        assert!(!budget.grow(growing, LARGEST, NOW));
        assert_eq!(budget.admit(LARGEST, NOW), None);
        budget.release(other);
        assert!(budget.grow(growing, LARGEST, NOW));
        budget.release(growing);
        assert_eq!((budget.small, budget.large, budget.held.len()), (0, 0, 0));
    }

    #[test]
    fn an_abandoned_body_is_freed_after_its_time_once_another_needs_the_room() {
        let mut budget = Budget::default();
        let lost = budget.admit(LARGEST, NOW).expect("fits");
        assert!(budget.extend(lost, 10).is_some());
        assert_eq!(budget.admit(LARGEST, NOW + HELD_AT_MOST_MS - 1), None);
        assert!(budget.bytes(lost).is_some());
        assert!(budget.admit(LARGEST, NOW + HELD_AT_MOST_MS).is_some());
        assert_eq!(budget.bytes(lost), None);
        assert!(budget.extend(lost, 1).is_none());
        assert!(!budget.grow(lost, 1, NOW + HELD_AT_MOST_MS));
    }

    #[test]
    fn a_body_never_holds_more_than_it_was_charged_with() {
        let mut budget = Budget::default();
        let id = budget.admit(300_000, NOW).expect("fits");
        budget.extend(id, 200_000).expect("there is room").fill(1);
        assert!(budget.extend(id, 100_001).is_none());
        budget.extend(id, 100_000).expect("there is room").fill(2);
        assert_eq!(budget.bytes(id).map(|bytes| (bytes.len(), bytes[199_999], bytes[200_000])), Some((300_000, 1, 2)));
    }
}
