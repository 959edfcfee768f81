//! Decides until when the events of a customer are refused. A pure function of counts and of the time.

/// The shortest time for which a customer is refused, in milliseconds. KV may return values that are a minute old, so a
/// shorter refusal could be over before the edge knows of it.
pub(crate) const SHORTEST_MS: u64 = 60_000;

/// By how much the shortest time grows with each source of the customer, in milliseconds: the relay writes the sources
/// to the edge one after the other, and those that it writes last have to be refused for a while too.
pub(crate) const PER_SOURCE_MS: u64 = 200;

/// The longest time for which a customer is refused, in milliseconds. Also how far back its events are counted: an
/// excess is forgotten after that.
pub(crate) const LONGEST_MS: u64 = 3_600_000;

const MINUTE_MS: u64 = 60_000;

/// The events of a customer that were stored in a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Minute {
    /// Its beginning, in Unix milliseconds.
    pub(super) begins_ms: u64,
    pub(super) events: u64,
}

/// Until when (in Unix milliseconds) a customer with this limit of events per minute is refused from now on. `None` if
/// nothing changes: it is not over its limit, or `refused_until` is late enough. `minutes` are in order, the current
/// one is the last.
///
/// Every minute allows `limit` events. More events are taken from the allowance of the following minutes, and the
/// customer is refused until that is paid back. The unused allowance of the minute before counts too, and no earlier
/// one: an event is counted in the minute in which it is stored, which may be the one after it was received.
///
/// `sources` is how many sources the customer has.
pub(super) fn refused_until(
    limit: u64,
    minutes: &[Minute],
    refused_until: Option<u64>,
    sources: u64,
    now_ms: u64,
) -> Option<u64> {
    let shortest = SHORTEST_MS.saturating_add(sources.saturating_mul(PER_SOURCE_MS)).min(LONGEST_MS);
    let this_minute = now_ms - now_ms % MINUTE_MS;
    let earlier = minutes.partition_point(|minute| minute.begins_ms < this_minute);
    let owed_by_earlier = paid_at(limit, minutes.get(..earlier).unwrap_or_default()) > now_ms;
    let paid_at = paid_at(limit, minutes);
    if !owed_by_earlier && paid_at <= this_minute.saturating_add(MINUTE_MS) {
        return None;
    }
    let until = paid_at.clamp(now_ms.saturating_add(shortest), now_ms.saturating_add(LONGEST_MS));
    match refused_until.filter(|&refused_until| refused_until > now_ms) {
        // Each later time is written to all sources of the customer. What is missing is decided again at the end.
        Some(refused_until) if until < refused_until.saturating_add(shortest) => None,
        Some(_) | None => Some(until),
    }
}

/// When the allowances of these minutes and of the following ones have paid for all of their events.
fn paid_at(limit: u64, minutes: &[Minute]) -> u64 {
    minutes.iter().fold(0, |paid_at: u64, minute| {
        let costs = minute.events.saturating_mul(MINUTE_MS).div_ceil(limit.max(1));
        paid_at.max(minute.begins_ms.saturating_sub(MINUTE_MS)).saturating_add(costs)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The beginning of a minute.
    const T: u64 = 1_764_000_000_000;

    const LIMIT: u64 = 100;

    /// The decision at `now_s` seconds after [`T`], with the counts of the minutes from [`T`] on.
    fn of(events: &[u64], refused_until: Option<u64>, now_s: u64) -> Option<u64> {
        let minutes: Vec<Minute> =
            (0..).zip(events).map(|(number, &events)| Minute { begins_ms: T + number * MINUTE_MS, events }).collect();
        super::refused_until(LIMIT, &minutes, refused_until.map(at), 0, now_s * 1_000 + T)
            .map(|until| (until - T) / 1_000)
    }

    fn at(seconds: u64) -> u64 {
        T + seconds * 1_000
    }

    #[test]
    fn a_customer_within_its_limit_is_never_refused() {
        for events in [&[][..], &[100], &[0, 100], &[100, 100, 100], &[99, 1, 100], &[70, 18, 122]] {
            for now_s in [0, 1, 59] {
                let now_s = now_s + events.len().saturating_sub(1) as u64 * 60;
                assert_eq!(of(events, None, now_s), None, "{events:?} at {now_s}");
            }
        }
    }

    #[test]
    fn an_excess_is_paid_back_at_the_rate_of_the_limit_and_within_the_bounds() {
        assert_eq!(of(&[400], None, 30), Some(180), "of the minute before, this one, and two more");
        assert_eq!(of(&[200], None, 30), None, "the minute before allows what this one does not");
        assert_eq!(of(&[201], None, 30), Some(90), "not less than a minute from now");
        assert_eq!(of(&[1_000_000], None, 30), Some(3_630), "not more than an hour from now");
        assert_eq!(of(&[u64::MAX, u64::MAX], None, 60), Some(3_660), "and nothing overflows");
        // An allowance is not saved for longer.
        assert_eq!(of(&[0, 0, 200], None, 130), None);
        assert_eq!(of(&[0, 0, 250], None, 130), Some(210));
        // The excess of the minute before takes from the allowance of this one.
        assert_eq!(of(&[250], None, 65), Some(125));
        assert_eq!(of(&[250, 60], None, 65), Some(126));
        assert_eq!(of(&[250], None, 95), None, "it is paid back");
        assert_eq!(of(&[250, 60], None, 95), Some(155));
        // A steady excess.
        assert_eq!(of(&[150, 150], None, 110), None);
        assert_eq!(of(&[150, 150, 150], None, 170), Some(230));
        // It is forgotten with the minute, which is not counted any more.
        assert_eq!(of(&[], None, 3_600), None);
    }

    #[test]
    fn a_decision_that_is_repeated_changes_nothing() {
        let first = of(&[400], None, 30);
        for now_s in [30, 31, 59] {
            assert_eq!(of(&[400], first, now_s), None, "at {now_s}");
        }
        assert_eq!(of(&[400, 0, 0], first, 130), None);
        assert_eq!(of(&[400, 0, 0, 0, 0], first, 241), None, "the time has passed, and nothing is owed");
        // The lower bound does not move the end again and again.
        let short = of(&[201], None, 30);
        assert_eq!(of(&[201], short, 59), None);
        assert_eq!(of(&[201, 0], short, 91), None);
    }

    #[test]
    fn what_arrives_in_spite_of_a_refusal_makes_it_longer_in_steps_of_a_minute() {
        assert_eq!(of(&[400, 50], Some(180), 70), None, "half a minute more is decided at the end");
        assert_eq!(of(&[400, 50, 0, 0], Some(180), 181), Some(241));
        assert_eq!(of(&[400, 100], Some(180), 70), Some(240));
    }

    #[test]
    fn a_smaller_limit_takes_longer() {
        let minutes = [Minute { begins_ms: T, events: 10 }];
        assert_eq!(super::refused_until(1, &minutes, None, 0, T), Some(at(540)));
        assert_eq!(super::refused_until(0, &minutes, None, 0, T), Some(at(540)), "which the API does not accept");
    }

    #[test]
    fn a_customer_with_many_sources_is_refused_for_as_long_as_it_takes_to_write_them() {
        let minutes = [Minute { begins_ms: T, events: 201 }];
        let of = |sources| super::refused_until(LIMIT, &minutes, None, sources, T).map(|until| (until - T) / 1_000);
        assert_eq!([of(0), of(1_000), of(u64::MAX)], [Some(60), Some(260), Some(3_600)]);
    }
}
