//! What the other parts of the relay tell the engine with.

use std::collections::HashMap;
use std::time::Duration;

use engine::Input;
use engine::item::Item;
use shared::id::{DeliveryId, DestinationId, ReplayId};
use tokio::sync::mpsc;

pub mod clock;

use self::clock::Clock;

/// Tells the engine things. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(crate) inbox: mpsc::UnboundedSender<Input>,
    pub(crate) clock: Clock,
}

impl Handle {
    /// Hands over deliveries that have just been stored.
    pub fn fresh(&self, items: Vec<Item>) {
        if !items.is_empty() {
            self.tell(Input::Fresh(items));
        }
    }

    /// Says that a delivery that has just been stored for this destination waits so long for its first attempt.
    pub fn later(&self, destination: DestinationId, wait: Duration) {
        self.tell(Input::Later { destination, wait });
    }

    /// Says that something may be due in the table for this destination.
    pub fn rescan(&self, destination: DestinationId) {
        self.tell(Input::Rescan(destination));
    }

    /// Says that a caller has asked to send this delivery at once.
    pub fn expedite(&self, destination: DestinationId, delivery: DeliveryId) {
        self.tell(Input::Expedite(vec![(destination, delivery)]));
    }

    /// Says that deliveries of this replay have been cancelled.
    pub fn replay_cancelled(&self, replay: ReplayId) {
        self.tell(Input::ReplayCancelled(replay));
    }

    /// Says that this delivery has been cancelled. An attempt that is in flight goes on.
    pub fn delivery_cancelled(&self, destination: DestinationId, delivery: DeliveryId) {
        self.tell(Input::DeliveryCancelled(destination, delivery));
    }

    pub(crate) fn owned(&self, shards: HashMap<i16, i64>, until_us: u64) {
        self.tell(Input::Owned { shards, until_us });
    }

    pub(crate) fn tell(&self, input: Input) {
        // The engine ends only with the process; what it no longer hears is in the table.
        let _ = self.inbox.send(input);
    }
}
