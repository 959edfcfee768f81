//! The handle through which the other parts of the relay send inputs to the engine.

use std::collections::HashMap;
use std::time::Duration;

use engine::Input;
use engine::item::Item;
use shared::id::{DeliveryId, DestinationId, ReplayId};
use tokio::sync::mpsc;

pub mod clock;

use self::clock::Clock;

/// Sends inputs to the engine. Cheap to clone.
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

    /// Reports that a delivery that has just been stored for this destination waits for `wait` before its first
    /// attempt.
    pub fn later(&self, destination: DestinationId, wait: Duration) {
        self.tell(Input::Later { destination, wait });
    }

    /// Reports that a delivery in the table may be due for this destination.
    pub fn rescan(&self, destination: DestinationId) {
        self.tell(Input::Rescan(destination));
    }

    /// Reports that a caller has expedited this delivery.
    pub fn expedite(&self, destination: DestinationId, delivery: DeliveryId) {
        self.tell(Input::Expedite(vec![(destination, delivery)]));
    }

    /// Reports that deliveries of this replay have been cancelled.
    pub fn replay_cancelled(&self, replay: ReplayId) {
        self.tell(Input::ReplayCancelled(replay));
    }

    /// Reports that this delivery has been cancelled. An attempt in flight continues.
    pub fn delivery_cancelled(&self, destination: DestinationId, delivery: DeliveryId) {
        self.tell(Input::DeliveryCancelled(destination, delivery));
    }

    pub(crate) fn owned(&self, shards: HashMap<i16, i64>, until_us: u64) {
        self.tell(Input::Owned { shards, until_us });
    }

    pub(crate) fn tell(&self, input: Input) {
        // The receiver outlives all senders except at shutdown. The state behind an input that is lost then is in the
        // table.
        let _ = self.inbox.send(input);
    }
}
