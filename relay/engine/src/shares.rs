//! Which lane goes next, and which slots are kept free for which lane.
//!
//! Two rules protect live traffic. The lanes that want to send take turns by weight, so that each gets its share of a
//! rate. And a part of the slots of a destination, and of all destinations together, is kept free for the more urgent
//! lanes, because a taken slot is not free again until the destination has answered.

use model::lane::{Lane, PerLane};

/// How far a lane's turn moves when it has sent: shares of 6 to 3 to 1 if all three want to send. A lane that does not
/// use its share leaves it to the others.
fn stride(lane: Lane) -> u64 {
    match lane {
        Lane::Fresh => 1,
        Lane::Retry => 2,
        Lane::Replay => 6,
    }
}

/// The percentage of the slots that less urgent lanes leave to this one.
pub fn kept_percent(lane: Lane) -> usize {
    match lane {
        Lane::Fresh => 20,
        Lane::Retry => 10,
        Lane::Replay => 0,
    }
}

/// Which lane of a destination goes next: stride scheduling (Waldspurger and Weihl, 1995).
#[derive(Debug, Default)]
pub(super) struct Turns {
    passes: PerLane<u64>,
    /// The pass of the lane that went last: a lane that has been idle does not save up turns.
    now: u64,
}

impl Turns {
    /// Which of these lanes goes next.
    pub(super) fn next(&self, waiting: impl Iterator<Item = Lane>) -> Option<Lane> {
        waiting.min_by_key(|lane| (self.passes[*lane].max(self.now), *lane))
    }

    /// A lane has sent.
    pub(super) fn went(&mut self, lane: Lane) {
        self.now = self.passes[lane].max(self.now);
        self.passes[lane] = self.now + stride(lane);
    }
}

/// Attempts in flight, by lane.
#[derive(Debug, Default)]
pub(super) struct Slots {
    used: PerLane<usize>,
}

impl Slots {
    pub(super) fn take(&mut self, lane: Lane) {
        self.used[lane] += 1;
    }

    pub(super) fn give_back(&mut self, lane: Lane) {
        self.used[lane] -= 1;
    }

    pub(super) fn total(&self) -> usize {
        self.used.each().into_iter().sum()
    }

    /// Whether a lane may take one more of `all` slots. Slots that are kept for more urgent lanes and not used by them
    /// stay free. If `all` is so small that a share is less than half a slot, none is kept.
    pub(super) fn admits(&self, lane: Lane, all: usize) -> bool {
        let more_urgent = Lane::ALL.into_iter().filter(|other| *other < lane);
        let kept: usize =
            more_urgent.map(|other| ((all * kept_percent(other) + 50) / 100).saturating_sub(self.used[other])).sum();
        self.total() + kept < all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(waiting: &[Lane], turns: usize) -> PerLane<usize> {
        let (mut order, mut shares) = (Turns::default(), PerLane::default());
        for _ in 0..turns {
            let lane = order.next(waiting.iter().copied()).expect("a lane waits");
            order.went(lane);
            shares[lane] += 1;
        }
        shares
    }

    #[test]
    fn waiting_lanes_share_by_weight_and_unused_shares_go_to_the_others() {
        assert_eq!(shares(&Lane::ALL, 100).each(), [&60, &30, &10]);
        assert_eq!(shares(&[Lane::Replay], 100).each(), [&0, &0, &100]);
        assert_eq!(shares(&[Lane::Fresh, Lane::Replay], 70).each(), [&60, &0, &10]);
    }

    #[test]
    fn an_idle_lane_goes_next_when_it_returns_and_does_not_catch_up() {
        let mut order = Turns::default();
        for _ in 0..1_000 {
            order.went(Lane::Replay);
        }
        assert_eq!(order.next([Lane::Fresh, Lane::Replay].into_iter()), Some(Lane::Fresh));
        let mut fresh = 0;
        for _ in 0..70 {
            let lane = order.next([Lane::Fresh, Lane::Replay].into_iter()).expect("a lane waits");
            order.went(lane);
            fresh += usize::from(lane == Lane::Fresh);
        }
        assert!((60..=61).contains(&fresh), "{fresh}: six of seven, as if it had never been idle");
    }

    #[test]
    fn replays_and_retries_leave_slots_to_live_traffic_which_may_use_all_of_them() {
        let filled = |lanes: &[Lane], all| {
            let mut slots = Slots::default();
            for lane in lanes {
                while slots.admits(*lane, all) {
                    slots.take(*lane);
                }
            }
            slots.used
        };
        assert_eq!(filled(&[Lane::Replay], 10).each(), [&0, &0, &7]);
        assert_eq!(filled(&[Lane::Replay, Lane::Retry, Lane::Fresh], 10).each(), [&2, &1, &7]);
        assert_eq!(filled(&[Lane::Fresh], 10).each(), [&10, &0, &0]);
        assert_eq!(filled(&[Lane::Replay], 1).each(), [&0, &0, &1], "any lane may use a single slot");
    }
}
