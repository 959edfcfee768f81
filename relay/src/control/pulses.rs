//! Tells a viewer that something has changed, for as long as its session counts.

use tokio::time::{Instant, sleep_until};

use super::stream::HEARTBEAT_EVERY;
use super::{Actor, Control, Error, Scope};
use crate::callers::Call;
use crate::pulse::Beats;
use crate::streams::Place;

/// The pulses for one viewer.
#[derive(Debug)]
pub struct Pulses {
    call: Call,
    /// Among the streams of the caller.
    _place: Place,
    beats: Beats,
    heartbeat_at: Instant,
}

/// What a viewer gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// Something has changed: what the viewer sees may be old.
    Changed,
    /// Nothing has, for a while.
    Heartbeat,
}

/// Begins to tell the actor of changes. They may be those of other customers.
///
/// # Errors
/// Returns an error if the actor may not read, or if there are too many streams.
pub fn open(control: &Control, actor: &Actor) -> Result<Pulses, Error> {
    actor.require(Scope::Read)?;
    let caller = actor.lasting();
    let place = control.streams.enter(caller).map_err(Error::TooManyStreams)?;
    let call = control.callers.begin(caller);
    Ok(Pulses { call, _place: place, beats: control.pulse.watch(), heartbeat_at: Instant::now() + HEARTBEAT_EVERY })
}

impl Pulses {
    /// What to send next; `None` when the session ends or the relay shuts down.
    pub async fn next(&mut self) -> Option<Sent> {
        let sent = tokio::select! {
            biased;
            () = self.call.ended() => None,
            changed = self.beats.next() => changed.then_some(Sent::Changed),
            () = sleep_until(self.heartbeat_at) => Some(Sent::Heartbeat),
        };
        self.heartbeat_at = Instant::now() + HEARTBEAT_EVERY;
        sent
    }
}
