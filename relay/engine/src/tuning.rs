//! The constants of the engine's pacing, each with its reason. All times are in microseconds.
//!
//! Their sources: Standard Webhooks 1.0.0 (410 disables, 429/502/504 throttle, persistent failure disables); TCP's
//! congestion control (RFC 5681: halve, slow start, then one more per round); Convoy's breaker (70 % of at least 10
//! requests); Svix (disabled after five days of failures); Amazon SQS fair queues (noisy from 10 % of the messages in
//! flight and 30 messages, or from 10 % of the processing time).

const SECOND: u64 = 1_000_000;

/// The memory for waiting deliveries, without their bodies and over all destinations, in bytes: some 16,000 deliveries
/// of ordinary size.
pub const WAITING_ROWS_BYTES: usize = 64 << 20;

/// Deliveries in memory for one lane of a destination. Further ones are read when these have been sent.
pub const MOST_WAITING_OF_LANE: usize = 1_000;

/// Deliveries that one read returns for one lane, so that a statement has room for other lanes.
pub const MOST_READ_OF_LANE: usize = 500;

/// Attempts that have ended and are not settled yet: about three seconds of what one relay sends on two cores. At this
/// number nothing more is sent until the database has written some.
pub const MOST_UNSETTLED: usize = 20_000;

/// How long after a row became due its transaction may be committed: longer than the time limit of a statement in the
/// store.
pub const UNSEEN_US: u64 = 20 * SECOND;

/// Due times in the table are remembered to a tenth of a second, so that a million retries are not a million times.
pub const DUE_STEP_US: u64 = SECOND / 10;

/// How many due times a lane remembers, the earliest ones: a destination that fails has hundreds of thousands of
/// retries. The scan, every two seconds, finds the later ones.
pub const MOST_DUE: usize = 128;

/// The maximum number of expedited deliveries of one destination in memory. The scan, every two seconds, finds further
/// ones.
pub const MOST_EXPEDITED: usize = 20;

/// The approximate memory of a delivery with its headers, in bytes. Once it has been read, its real size counts.
pub const ROW_BYTES: usize = 4_096;

/// One lane may use one in this many parts of the free memory for deliveries. Sixteen lanes that use all they may leave
/// half of it free, and hundreds of them leave a little for a lane that has nothing.
pub const ROWS_PART: usize = 16;

/// Bodies up to this size, in bytes, are not counted in flight: all slots together hold little of them.
pub const SMALL_IN_FLIGHT: usize = 64 * 1024;

/// How long a delivery waits that could not be sent because of the relay: the first wait, doubled each time, and the
/// longest.
pub const NOT_SENT_WAIT_US: u64 = 5 * SECOND;
pub const LONGEST_NOT_SENT_WAIT_US: u64 = 300 * SECOND;

/// How many times in a row a transform may be late before its delivery is held: about ten minutes.
pub const LATE_TRANSFORMS: u16 = 8;

/// How long after a failed read it is repeated.
pub const READ_AGAIN_US: u64 = SECOND;

/// How often a whole lane is read, regardless of what is known of it.
pub const READ_WHOLE_EVERY_US: u64 = 60 * SECOND;

/// How long a delivery that is behind another one of its key waits until it is read again. The one in front makes it
/// due when it frees the key. These waits cover changes at other replicas at the same moment, a route that stops
/// blocking, and a delivery in front that reaches its retention. The next one of a key waits for the shorter time. One
/// behind it waits for as long as it has waited already, within these bounds, so that a key with a long queue costs
/// next to nothing.
pub const BEHIND_WAIT_US: u64 = 600 * SECOND;
pub const LONGEST_BEHIND_WAIT_US: u64 = 6 * 3_600 * SECOND;

/// How long nothing is sent to a destination that is to be disabled, until the table says that it is.
pub const DISABLING_BACK_OFF_US: u64 = 10 * SECOND;

/// The longest back-off of a whole destination by Retry-After: as long as the delivery itself waits for it. A daily
/// quota asks for a day. Resuming the destination, or changing its address, ends the back-off sooner.
pub const MAX_BACK_OFF_US: u64 = crate::retry::MAX_RETRY_AFTER_MS * 1_000;

/// The back-off of a destination that answers 429 without saying for how long: the first one, doubled each time, up to
/// the longest. Most limits are per second or per minute.
pub const FIRST_THROTTLE_BACK_OFF_US: u64 = SECOND;
pub const LONGEST_THROTTLE_BACK_OFF_US: u64 = 300 * SECOND;

/// How far such a back-off is spread to either side.
pub const THROTTLE_SPREAD: f64 = 0.2;

/// How many such responses to a delivery are not charged: more than eight hours at the longest back-off, and far longer
/// if many deliveries wait, because each back-off is for all of them. Later ones are charged, so that the delivery ends
/// one day.
pub const THROTTLED_FOR_FREE: u16 = 100;

/// Failures in a row that open a breaker: more than the hiccup of a deployment at the default concurrency of ten.
pub const FAILURES_IN_A_ROW: u32 = 10;

/// The percentage of failures that opens a breaker, out of at least [`SHARE_OF_AT_LEAST`] attempts in the present and
/// the last [`SHARE_PERIOD_US`]. Below it a good part of the deliveries succeeds, and an open breaker would only delay
/// them.
pub const FAILURE_PERCENT: u32 = 70;
pub const SHARE_OF_AT_LEAST: u32 = 20;
pub const SHARE_PERIOD_US: u64 = 30 * SECOND;

/// How long a breaker stays open before a probe: the first time, doubled after each failed probe, and the longest. A
/// restart takes seconds, so the first time is short. A destination that is down for days costs twelve requests an
/// hour.
pub const FIRST_OPEN_US: u64 = 5 * SECOND;
pub const LONGEST_OPEN_US: u64 = 300 * SECOND;

/// How far the time for which a breaker is open is spread to either side, so that destinations on one host that failed
/// together are not probed together.
pub const OPEN_SPREAD: f64 = 0.2;

/// A breaker that has been closed for this long opens for the first, short time again.
pub const STEADY_AFTER_US: u64 = 60 * SECOND;

/// The lowest factor of a reduced rate: below a sixteenth a destination is as good as cut off, which is the breaker's
/// task.
pub const LEAST_RATE_FACTOR: f64 = 1.0 / 16.0;

/// The part of a rate that is restored with each [`RATE_GROWS_EVERY_US`] in which an attempt succeeded: half of the
/// rate in ten seconds.
pub const RATE_GROWTH: f64 = 0.05;
pub const RATE_GROWS_EVERY_US: u64 = SECOND;

/// A latency counts as grown if it exceeds twice the usual one by more than this, in microseconds. An overloaded
/// receiver queues requests for longer. Smaller differences are noise of the network and of the relay's machine.
pub const LATENCY_GROWN_BY_US: f64 = 250_000.0;

/// The weight of one attempt in the present latency (an average over about ten attempts), and in the usual one (about
/// five hundred).
pub const LATENCY_WEIGHT: f64 = 0.1;
pub const USUAL_LATENCY_WEIGHT: f64 = 0.002;

/// The number of attempts before a latency means anything.
pub const LATENCY_OF_AT_LEAST: u32 = 20;

/// A grown latency reduces the concurrency to no less than a quarter of the limit: an endpoint may have become
/// permanently slow, and still take everything it is sent.
pub const LATENCY_LEAVES_PART: f64 = 4.0;

/// A destination without a success for this long is disabled, if at least this many attempts have failed.
pub const FAILING_DISABLES_AFTER_US: u64 = 5 * 24 * 3_600 * SECOND;
pub const FAILING_DISABLES_AFTER_FAILURES: u64 = 10;

/// The percentage of all slots from which they are short: noisy destinations that have their fair share then take only
/// slots that no other one wants.
pub const SLOTS_ARE_SHORT_PERCENT: usize = 75;

/// One in this many slots is kept for destinations that have less than their fair share.
pub const KEPT_SLOTS_PART: usize = 16;

/// A destination is noisy if it has more than this part of the attempts in flight, and at least this number of them, or
/// if it took more than this part of the time that all attempts took recently.
pub const NOISY_PART: f64 = 0.1;
pub const NOISY_IN_FLIGHT: usize = 30;

/// The half-life of an attempt's weight in "recently", see [`NOISY_PART`].
pub const RECENT_HALF_LIFE_US: f64 = 30_000_000.0;

/// How often a destination that is sent to is reported while its state does not change: fresh enough for operators, at
/// a fifth of a row per second.
pub const REPORT_EVERY_US: u64 = 5 * SECOND;

/// A back-off that grows by no more than this is not reported at once: if the relay is killed, this much of it can be
/// lost.
pub const HOLD_STEP_US: u64 = SECOND;

/// From this spacing on, the time of a send is stored before the send. This costs a row for each send, no more often
/// than reports do. A faster rate loses at most this time if the owner is killed: the next owner waits for one spacing.
pub const RESERVED_FROM_US: u64 = REPORT_EVERY_US;

/// How long after its request a permit may be used: longer than any usable database takes to store it. The end of this
/// time is what is stored, so the next owner after one that was killed waits for that much longer.
pub const PERMIT_US: u64 = 5 * SECOND;
