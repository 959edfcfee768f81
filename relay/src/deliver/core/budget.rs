//! What the bodies of all lines may take in memory together.
//!
//! A body beyond it is not kept: its row is in the database, and the body is read from there when it is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::deliver::item::Item;

/// The bytes that may be held, and how many are.
pub(super) struct Budget {
    most: usize,
    held: Arc<AtomicUsize>,
}

/// A delivery that waits in memory; what its body takes is given back when it is dropped or taken out.
pub(super) struct Kept {
    pub(super) item: Item,
    _reserved: Reserved,
}

struct Reserved {
    bytes: usize,
    held: Arc<AtomicUsize>,
}

impl Budget {
    pub(super) fn new(most: usize) -> Self {
        Self { most, held: Arc::default() }
    }

    /// Keeps a delivery, without its body where there is no room for that. A body that several deliveries share counts
    /// for each of them.
    pub(super) fn keep(&self, mut item: Item) -> Kept {
        let bytes = item.event.body.as_ref().map_or(0, Vec::len);
        let fits = self.held.load(Ordering::Relaxed).saturating_add(bytes) <= self.most;
        if !fits {
            item.event = Arc::new(item.event.without_body());
        }
        let bytes = if fits { bytes } else { 0 };
        self.held.fetch_add(bytes, Ordering::Relaxed);
        Kept { item, _reserved: Reserved { bytes, held: Arc::clone(&self.held) } }
    }

    /// Whether anything can be kept with its body.
    pub(super) fn has_room(&self) -> bool {
        self.held.load(Ordering::Relaxed) < self.most
    }

    /// How many bytes are held.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
