//! The inputs and the commands of the engine.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use model::destination::Destination;
use model::health::{Health, Learned, Run};
use model::lane::Lane;
use model::settlement::Settlement;
use shared::id::{DeliveryId, DestinationId, ReplayId};

use super::tuning::{MOST_READ_OF_LANE, MOST_UNSETTLED, MOST_WAITING_OF_LANE, UNSEEN_US, WAITING_ROWS_BYTES};
use crate::item::Item;
use crate::outcome::Outcome;

/// Limits of what the engine holds at one time.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Attempts in flight, over all destinations.
    pub in_flight: usize,
    /// Attempts that have ended and are not settled yet: the backlog while the database does not respond.
    pub unsettled: usize,
    /// Deliveries in memory for one lane of a destination.
    pub line: usize,
    /// Deliveries that one read returns for one lane of a destination.
    pub read: usize,
    /// Bytes of the bodies that wait in memory, over all destinations.
    pub bodies: usize,
    /// Bytes of the deliveries that wait in memory, without their bodies, over all destinations.
    pub rows: usize,
    /// Bytes of the large bodies of attempts in flight, over all destinations. A body larger than this is sent on its
    /// own.
    pub in_flight_bytes: usize,
    /// How long after a row became due its transaction may be committed, in microseconds. A read in between does not
    /// see the row, so the next read covers this time again. Rows that are committed even later are found when the
    /// whole lane is read.
    pub unseen_us: u64,
}

impl Limits {
    /// Limits for a number of attempts in flight, bytes of waiting bodies, and bytes of large bodies in flight.
    #[must_use]
    pub fn new(in_flight: usize, bodies: usize, in_flight_bytes: usize) -> Self {
        Self {
            in_flight,
            unsettled: MOST_UNSETTLED,
            line: MOST_WAITING_OF_LANE,
            read: MOST_READ_OF_LANE,
            bodies,
            rows: WAITING_ROWS_BYTES,
            in_flight_bytes,
            unseen_us: UNSEEN_US,
        }
    }
}

/// An input of the engine.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the most frequent, and is moved through a channel once"
)]
pub enum Input {
    /// The shards that this replica owns, with their epochs, and the time until which its ownership is certain.
    Owned { shards: HashMap<i16, i64>, until_us: u64 },
    /// The lease could not be renewed in time: nothing may be sent until [`Input::Owned`] arrives.
    Fenced,
    /// The destinations that this replica can send to have changed.
    Configured(Arc<HashMap<DestinationId, Arc<Destination>>>),
    /// Deliveries that this replica has just stored.
    Fresh(Vec<Item>),
    /// The table may have due deliveries for this destination.
    Rescan(DestinationId),
    /// The result of a read.
    Found { destination: DestinationId, lane: Lane, epoch: i64, found: Found },
    /// A read failed. The engine requests it again.
    NotFound { destination: DestinationId, lane: Lane, epoch: i64 },
    /// When the first delivery of a lane in the table is due: in microseconds by the database's clock, and as a wait
    /// from now. Another replica may own the lane.
    NextDue { destination: DestinationId, lane: Lane, due_us: u64, wait: Duration },
    /// A delivery that has just been stored waits for its first attempt, for this long.
    Later { destination: DestinationId, wait: Duration },
    /// An attempt has ended. `jitter` is a random number from 0 to 1.
    Answered { item: Item, epoch: i64, shard: i16, outcome: Outcome, jitter: f64 },
    /// Settlements that were written. Waits were added to `at_us`, in microseconds by the database's clock, or to a
    /// later time.
    Settled { settlements: Vec<Settlement>, at_us: u64 },
    /// Settlements that were not written: another replica owns the shard, or the row has changed since it was sent. Or
    /// they were written, and the response to the commit was lost.
    NotSettled(Vec<Settlement>),
    /// The stored state of destinations that this replica has begun to own.
    HealthLoaded(Vec<LoadedHealth>),
    /// Permits that have been stored ([`Health::permit_us`]).
    Permitted(Vec<Permitted>),
    /// Callers have expedited these. Other replicas may own them.
    Expedite(Vec<(DestinationId, DeliveryId)>),
    /// The rows of expedited deliveries have been read. `items` are those that are still expedited; it is empty if the
    /// read failed.
    Expedited { destination: DestinationId, epoch: i64, asked: Vec<DeliveryId>, items: Vec<Item> },
    /// Deliveries of this replay were cancelled in the table.
    ReplayCancelled(ReplayId),
    /// This delivery was cancelled in the table.
    DeliveryCancelled(DestinationId, DeliveryId),
    /// Only time has passed.
    Woken,
}

/// The stored state of a destination.
#[derive(Debug)]
pub struct LoadedHealth {
    pub destination: DestinationId,
    pub epoch: i64,
    /// `None` if nothing has been sent to it yet.
    pub learned: Option<Learned>,
}

/// A permit that has been stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permitted {
    pub destination: DestinationId,
    pub epoch: i64,
    /// When it was requested, in microseconds.
    pub asked_us: u64,
}

/// The due deliveries that a read of one lane has returned.
#[derive(Debug)]
pub struct Found {
    pub items: Vec<Item>,
    /// Whether the read returned all of them.
    pub complete: bool,
    /// When it was read by the database's clock, Unix time in microseconds.
    pub read_us: u64,
}

/// A command of the engine.
#[derive(Debug)]
pub enum Command {
    Send {
        item: Item,
        destination: Arc<Destination>,
        epoch: i64,
    },
    /// Read up to `limit` due deliveries of one lane of a destination, except those that are known.
    Read {
        destination: DestinationId,
        lane: Lane,
        epoch: i64,
        limit: usize,
        /// Rows that were due before this time need not be read, in microseconds.
        begin_us: u64,
        known: Vec<DeliveryId>,
        /// Keys of which no delivery can be taken now.
        busy: Vec<i64>,
        /// Whether there is room for their bodies. Otherwise a body is read when it is sent.
        bodies: bool,
    },
    /// Read the rows of these expedited deliveries.
    ReadExpedited {
        destination: DestinationId,
        epoch: i64,
        deliveries: Vec<DeliveryId>,
    },
    Settle(Settlement),
    /// Read the stored state of these destinations, each with the epoch of its shard. Nothing is sent to them before it
    /// arrives.
    LoadHealth(Vec<(DestinationId, i64)>),
    /// Abort every attempt in flight that has not been answered: another replica may soon own its destination, and
    /// sends it again.
    BreakOff,
    Disable(DestinationId, Disabling),
    /// Store the health of a destination, for the API and for the next owner.
    Report(Box<Health>),
}

/// Why a destination is disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disabling {
    /// It answered 410.
    Gone,
    /// It has failed for days without one success.
    Failing(Run),
}
