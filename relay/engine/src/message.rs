//! What the engine's decisions go in by and come out as.

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

/// Bounds of what the engine holds at one time.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Attempts in flight, over all destinations.
    pub in_flight: usize,
    /// Attempts that have been answered and are not settled yet: what a database that does not answer can pile up.
    pub unsettled: usize,
    /// Deliveries in memory for one lane of a destination.
    pub line: usize,
    /// Deliveries read at one time for one lane of a destination.
    pub read: usize,
    /// Bytes of the bodies that wait in memory, over all destinations.
    pub bodies: usize,
    /// Bytes of all else of the deliveries that wait in memory, over all destinations.
    pub rows: usize,
    /// Bytes of the large bodies of attempts in flight, over all destinations. One that is larger by itself goes alone.
    pub in_flight_bytes: usize,
    /// How long before a read rows may have become due that it does not see, because the transaction that writes them is
    /// not over, in microseconds. What is later still is found when a lane is read as a whole.
    pub unseen_us: u64,
}

impl Limits {
    /// With so many attempts in flight, bytes of bodies that wait, and bytes of large bodies in flight.
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

/// What the engine is told.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the most frequent, and is moved through a channel once"
)]
pub enum Input {
    /// The shards this replica owns, with their epochs, and until when it may be sure of that.
    Owned { shards: HashMap<i16, i64>, until_us: u64 },
    /// The lease could not be renewed in time: nothing may be sent until [`Input::Owned`] says what is owned.
    Fenced,
    /// The destinations that this replica can send to have changed.
    Configured(Arc<HashMap<DestinationId, Arc<Destination>>>),
    /// Deliveries that this replica has just stored.
    Fresh(Vec<Item>),
    /// Something may be due in the table, for this destination.
    Rescan(DestinationId),
    /// What a read has found.
    Found { destination: DestinationId, lane: Lane, epoch: i64, found: Found },
    /// A read failed; it is asked for again.
    NotFound { destination: DestinationId, lane: Lane, epoch: i64 },
    /// When the first delivery of a lane in the table is due: in microseconds by the database's clock, and how long that is
    /// from now. The lane may be another replica's.
    NextDue { destination: DestinationId, lane: Lane, due_us: u64, wait: Duration },
    /// A delivery that has just been stored waits so long for its first attempt.
    Later { destination: DestinationId, wait: Duration },
    /// An attempt has ended. `jitter` is a random number from 0 to 1.
    Answered { item: Item, epoch: i64, shard: i16, outcome: Outcome, jitter: f64 },
    /// Settled. Waits were added to `at_us`, in microseconds by the database's clock, or to a later time.
    Settled { settlements: Vec<Settlement>, at_us: u64 },
    /// Not settled: the shard is another replica's, or the delivery is not as it was when it was sent. Or it is settled, and the
    /// answer of that transaction was lost.
    NotSettled(Vec<Settlement>),
    /// What is stored of destinations that this replica sends for since a short time.
    HealthLoaded(Vec<LoadedHealth>),
    /// Permits that have been stored ([`Health::permit_us`]).
    Permitted(Vec<Permitted>),
    /// Callers have asked to send these at once. They may be other replicas'.
    Expedite(Vec<(DestinationId, DeliveryId)>),
    /// The rows of deliveries that are to be sent at once have been read; `items` are those that still are, and none of them
    /// if the read failed.
    Expedited { destination: DestinationId, epoch: i64, asked: Vec<DeliveryId>, items: Vec<Item> },
    /// Deliveries of this replay were cancelled in the table.
    ReplayCancelled(ReplayId),
    /// This delivery was cancelled in the table.
    DeliveryCancelled(DestinationId, DeliveryId),
    /// Only time has passed.
    Woken,
}

/// What is stored of a destination.
#[derive(Debug)]
pub struct LoadedHealth {
    pub destination: DestinationId,
    pub epoch: i64,
    /// `None` if nothing has been sent to it yet.
    pub learned: Option<Learned>,
}

/// A send that has been stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permitted {
    pub destination: DestinationId,
    pub epoch: i64,
    /// When it was asked for, in microseconds.
    pub asked_us: u64,
}

/// What was due in one lane.
#[derive(Debug)]
pub struct Found {
    pub items: Vec<Item>,
    /// Whether there was no more than that.
    pub complete: bool,
    /// When it was read by the database's clock, Unix time in microseconds.
    pub read_us: u64,
}

/// What the engine wants done.
#[derive(Debug)]
pub enum Command {
    Send {
        item: Item,
        destination: Arc<Destination>,
        epoch: i64,
    },
    /// Read up to `limit` due deliveries of one lane of a destination, besides those that are known.
    Read {
        destination: DestinationId,
        lane: Lane,
        epoch: i64,
        limit: usize,
        /// What is due before this time need not be read, in microseconds.
        begin_us: u64,
        known: Vec<DeliveryId>,
        /// Keys of which no delivery can be taken now.
        busy: Vec<i64>,
        /// Whether there is room for their bodies; else they are read when they are sent.
        bodies: bool,
    },
    /// Read the rows of these deliveries, which are to be sent at once.
    ReadExpedited {
        destination: DestinationId,
        epoch: i64,
        deliveries: Vec<DeliveryId>,
    },
    Settle(Settlement),
    /// Read what is stored of these destinations, each with the epoch of its shard. Nothing is sent to them before.
    LoadHealth(Vec<(DestinationId, i64)>),
    /// Break off every attempt that is in flight and has not been answered: another replica may own its destination soon, and
    /// sends it again.
    BreakOff,
    Disable(DestinationId, Disabling),
    /// Store how a destination takes what it is sent, for the API and for the next owner.
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
