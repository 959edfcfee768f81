//! The numbers of the engine's pacing, each with its reason. All times are microseconds.
//!
//! Where they come from: Standard Webhooks 1.0.0 (410 disables, 429/502/504 throttle, persistent failure disables); TCP's
//! congestion control (RFC 5681: halve, slow start, then one more per round); Convoy's breaker (70 % of at least 10
//! requests); Svix (disabled after five days of failures); Amazon SQS fair queues (noisy from 10 % of what is in flight
//! and 30 messages, or from 10 % of the processing time).

const SECOND: u64 = 1_000_000;

/// Deliveries that wait in memory, without their bodies and over all destinations, in bytes: some 16,000 of ordinary size.
pub const WAITING_ROWS_BYTES: usize = 64 << 20;

/// Deliveries in memory for one lane of a destination. What is beyond them is read when these have been sent.
pub const MOST_WAITING_OF_LANE: usize = 1_000;

/// Deliveries that one read takes for one lane, so that a statement has room for other lanes.
pub const MOST_READ_OF_LANE: usize = 500;

/// Attempts that have been answered and are not settled yet: about three seconds of what one relay sends on two cores. Beyond it nothing
/// is sent until the database has written some.
pub const MOST_UNSETTLED: usize = 20_000;

/// How long before a read rows may have become due that it does not see: longer than a
/// statement may take (the time limit of the store).
pub const UNSEEN_US: u64 = 20 * SECOND;

/// Times in the table are remembered to a tenth of a second, so that a million retries are not a million times.
pub const DUE_STEP_US: u64 = SECOND / 10;

/// How many times in the table a lane remembers, the earliest: a destination that fails has hundreds of thousands of
/// retries. The later ones are found by the look at what is due next, every two seconds.
pub const MOST_DUE: usize = 128;

/// The most deliveries of one destination in memory that callers have asked to send at once. Further ones are found by the
/// look at the table, every two seconds.
pub const MOST_EXPEDITED: usize = 20;

/// About what a delivery takes in memory with its headers, in bytes; what it does take counts when it has been read.
pub const ROW_BYTES: usize = 4_096;

/// One lane may have this part of what is still free for deliveries. Sixteen lanes that have all they may leave half of it
/// free, and hundreds of them a little for one that has nothing.
pub const ROWS_PART: usize = 16;

/// Bodies up to this size, in bytes, are not counted in flight: all slots together hold little of them.
pub const SMALL_IN_FLIGHT: usize = 64 * 1024;

/// How long a delivery waits that could not be sent because of the relay; doubled each time, up to the second.
pub const NOT_SENT_WAIT_US: u64 = 5 * SECOND;
pub const LONGEST_NOT_SENT_WAIT_US: u64 = 300 * SECOND;

/// How often in a row a transform may be late before its delivery is held: about ten minutes.
pub const LATE_TRANSFORMS: u16 = 8;

/// How long after a read that failed the next one is made.
pub const READ_AGAIN_US: u64 = SECOND;

/// How often a lane is read from its very beginning, whatever is known of it.
pub const READ_WHOLE_EVERY_US: u64 = 60 * SECOND;

/// How long a delivery that is behind another one of its key waits before it is read again. The one in front makes it due
/// when it lets it go; this is for what happens at other replicas at the same moment, for a route that stops blocking, and
/// for one in front that ends by its age. The next one of a key waits for the shorter time. One behind it waits for as long
/// as it has waited already, within these bounds, so that a key with a long queue costs next to nothing.
pub const BEHIND_WAIT_US: u64 = 600 * SECOND;
pub const LONGEST_BEHIND_WAIT_US: u64 = 6 * 3_600 * SECOND;

/// How long a destination that is to be disabled is held until the table says that it is.
pub const DISABLING_BACK_OFF_US: u64 = 10 * SECOND;

/// The longest Retry-After that holds back a whole destination: as long as the delivery itself waits for it. A day is what a
/// daily quota asks for. Resuming the destination, or another address, ends it sooner.
pub const MAX_BACK_OFF_US: u64 = crate::retry::MAX_RETRY_AFTER_MS * 1_000;

/// How long a destination is left alone that answers 429 and does not say for how long: twice as long with each, up to
/// the longest. Most limits are per second or per minute.
pub const FIRST_THROTTLE_BACK_OFF_US: u64 = SECOND;
pub const LONGEST_THROTTLE_BACK_OFF_US: u64 = 300 * SECOND;

/// How far such a pause is spread to either side.
pub const THROTTLE_SPREAD: f64 = 0.2;

/// So many such answers a delivery is not charged for: at the longest pause more than eight hours, and far longer where
/// many deliveries wait, because each pause is for all of them. Later ones count, so that it ends one day.
pub const THROTTLED_FOR_FREE: u16 = 100;

/// Failures in a row that open a breaker: more than a deployment's hiccup at the default concurrency of ten.
pub const FAILURES_IN_A_ROW: u32 = 10;

/// The percentage of failures that opens a breaker, of at least [`SHARE_OF_AT_LEAST`] attempts in the present and the
/// last [`SHARE_PERIOD_US`]. Below it most of what is sent arrives, and a pause would only delay that.
pub const FAILURE_PERCENT: u32 = 70;
pub const SHARE_OF_AT_LEAST: u32 = 20;
pub const SHARE_PERIOD_US: u64 = 30 * SECOND;

/// How long a breaker stays open before a probe: twice as long after each probe that fails, up to the longest. A restart
/// takes seconds, so the first is short; a destination that is down for days costs twelve requests an hour.
pub const FIRST_OPEN_US: u64 = 5 * SECOND;
pub const LONGEST_OPEN_US: u64 = 300 * SECOND;

/// How far the time that a breaker is open is spread to either side, so that destinations on one host which failed
/// together are not probed together.
pub const OPEN_SPREAD: f64 = 0.2;

/// A breaker that has been closed for so long opens with the first, short time again.
pub const STEADY_AFTER_US: u64 = 60 * SECOND;

/// What a rate is reduced to at most: below a sixteenth a destination is as good as closed, which the breaker is for.
pub const LEAST_RATE_FACTOR: f64 = 1.0 / 16.0;

/// How much of a rate comes back with each [`RATE_GROWS_EVERY_US`] in which something succeeded: half of it in ten
/// seconds.
pub const RATE_GROWTH: f64 = 0.05;
pub const RATE_GROWS_EVERY_US: u64 = SECOND;

/// A latency counts as grown where it is more than twice the usual one and so much more than that. A receiver that is
/// overloaded queues for longer; less than that is the noise of networks and of our own machine.
pub const LATENCY_GROWN_BY_US: f64 = 250_000.0;

/// The weight of one attempt in the present latency, and in the usual one: some ten and some five hundred attempts.
pub const LATENCY_WEIGHT: f64 = 0.1;
pub const USUAL_LATENCY_WEIGHT: f64 = 0.002;

/// Attempts before a latency says anything.
pub const LATENCY_OF_AT_LEAST: u32 = 20;

/// A latency that has grown reduces the concurrency to a quarter of the limit and no further: an endpoint may have become
/// slow for good, and still take all it is sent.
pub const LATENCY_LEAVES_PART: f64 = 4.0;

/// A destination without one success for so long is disabled, if it was tried at least so often.
pub const FAILING_DISABLES_AFTER_US: u64 = 5 * 24 * 3_600 * SECOND;
pub const FAILING_DISABLES_AFTER_FAILURES: u64 = 10;

/// The part of all slots beyond which they are short: then noisy destinations that have more than their fair share take what
/// no other one wants.
pub const SLOTS_ARE_SHORT_PERCENT: usize = 75;

/// One in so many slots is kept for destinations that have less than their fair share.
pub const KEPT_SLOTS_PART: usize = 16;

/// A destination is noisy from this part of what is in flight, and this number, or from this part of the time that
/// attempts took recently.
pub const NOISY_PART: f64 = 0.1;
pub const NOISY_IN_FLIGHT: usize = 30;

/// After so long an attempt counts half in what "recently" means for [`NOISY_PART`].
pub const RECENT_HALF_LIFE_US: f64 = 30_000_000.0;

/// How often a destination that is sent to is reported while its state does not change: as fresh as a person needs it,
/// and a fifth of a row a second.
pub const REPORT_EVERY_US: u64 = 5 * SECOND;

/// A hold that grows by less than this is not reported at once: so much of it a relay that is killed can lose.
pub const HOLD_STEP_US: u64 = SECOND;

/// From this time between two sends on, the time of a send is stored before it is sent. It costs a row for each send, no more
/// often than reports do. A faster rate loses at most this time if the owner is killed: the next one waits for one spacing.
pub const RESERVED_FROM_US: u64 = REPORT_EVERY_US;

/// How long after a send was asked for it may be made: longer than a database takes that is of any use. What is stored is the end
/// of this time, so the next owner of one that was killed waits for as much longer.
pub const PERMIT_US: u64 = 5 * SECOND;
