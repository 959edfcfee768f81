//! The memory that all lines may use together: for their deliveries with the headers, and separately for the bodies.
//!
//! A body that does not fit is not kept in memory: it is in the database, and is read from there when it is sent. The
//! deliveries of a lane may take a part of the memory that is still free ([`Budget::rows`]): the more is taken, the
//! fewer rows are read at a time, and some memory is always left for a lane that has none.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::tuning::{ROW_BYTES, ROWS_PART, SMALL_IN_FLIGHT};
use crate::item::Item;

/// The bytes that may be held, and those that are.
pub(super) struct Budget {
    bodies: Room,
    rows: Room,
}

struct Room {
    most: usize,
    held: Arc<AtomicUsize>,
}

/// A delivery that waits in memory. Its memory is returned when it is dropped or taken out.
pub(super) struct Kept {
    pub(super) item: Item,
    _reserved: [Reserved; 2],
}

/// Reserved bytes, which are returned when this is dropped.
pub(super) struct Reserved {
    bytes: usize,
    held: Arc<AtomicUsize>,
}

impl Budget {
    /// A budget in bytes, for bodies, and for deliveries without their bodies.
    pub(super) fn new(bodies: usize, rows: usize) -> Self {
        let room = |most| Room { most, held: Arc::default() };
        Self { bodies: room(bodies), rows: room(rows) }
    }

    /// Keeps a delivery, without its body if there is no room for the body. A body that several deliveries share counts
    /// for each of them.
    pub(super) fn keep(&self, mut item: Item) -> Kept {
        let bytes = item.event.body.as_ref().map_or(0, Vec::len);
        let fits = bytes <= self.bodies.free();
        if !fits {
            item.event = Arc::new(item.event.without_body());
        }
        let body = self.bodies.reserve(if fits { bytes } else { 0 });
        let row = self.rows.reserve(item.event.bytes_besides_body());
        Kept { item, _reserved: [body, row] }
    }

    /// Whether there is room for any body.
    pub(super) fn has_room(&self) -> bool {
        self.bodies.free() > 0
    }

    /// How many deliveries one lane may have in memory now; at least one, so that no lane waits for the others.
    pub(super) fn rows(&self) -> usize {
        (self.rows.free() / ROWS_PART / ROW_BYTES).max(1)
    }

    /// Reserves memory for `count` deliveries that are about to be read.
    pub(super) fn reserve_rows(&self, count: usize) -> Reserved {
        self.rows.reserve(count.saturating_mul(ROW_BYTES))
    }

    /// How many bytes of bodies are held.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.bodies.held.load(Ordering::Relaxed)
    }

    /// How many bytes of deliveries without their bodies are held.
    #[cfg(test)]
    pub(super) fn held_rows(&self) -> usize {
        self.rows.held.load(Ordering::Relaxed)
    }
}

impl Room {
    fn free(&self) -> usize {
        self.most.saturating_sub(self.held.load(Ordering::Relaxed))
    }

    fn reserve(&self, bytes: usize) -> Reserved {
        self.held.fetch_add(bytes, Ordering::Relaxed);
        Reserved { bytes, held: Arc::clone(&self.held) }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// How many bytes a body counts in flight.
pub(super) fn counted_bytes(body_bytes: usize) -> usize {
    if body_bytes > SMALL_IN_FLIGHT { body_bytes } else { 0 }
}

/// Whether a body fits into the memory for attempts in flight, given the bytes of its line and of all lines. With the
/// body, a line that already has bytes in flight may hold at most as many as were free before it, so that a destination
/// that hangs cannot take all of the memory. If nothing else is in flight, a body of any size fits.
pub(super) fn fits_in_flight(bytes: usize, of_line: usize, of_all: usize, most: usize) -> bool {
    let left = most.saturating_sub(of_all);
    bytes == 0 || of_all == 0 || (bytes <= left && (of_line == 0 || of_line + bytes <= left))
}
