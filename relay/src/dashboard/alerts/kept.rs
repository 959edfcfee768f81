//! The last alerts of each customer: the navigation of every page shows their number without a query of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shared::id::CustomerId;
use tokio::sync::Semaphore;

use super::Alert;
use crate::control::{Actor, Control, Scope, overview};

/// For how long what was read is shown to everyone who views the page: twenty viewers cost no more than one.
const FRESH: Duration = Duration::from_secs(2);

/// How old the number in the navigation may be before it is read again in the background.
pub(crate) const COUNTED_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// A number that is older is not shown: it may be wrong.
const COUNT_SHOWN_FOR: Duration = Duration::from_secs(120);

/// The most customers of which the last alerts are kept.
pub(crate) const MOST_KEPT: usize = 256;

/// The most customers whose alerts are read in the background at one time.
pub(crate) const READ_AT_ONCE: usize = 2;

/// What was wrong at a time.
#[derive(Debug)]
pub(in crate::dashboard) struct Known {
    pub(in crate::dashboard) at: Instant,
    pub(in crate::dashboard) alerts: Vec<Alert>,
}

#[derive(Debug, Clone)]
struct Entry {
    /// When it was last read or tried to be.
    tried: Instant,
    known: Option<Arc<Known>>,
}

/// The last alerts of each customer.
#[derive(Debug)]
pub(in crate::dashboard) struct Kept {
    entries: Mutex<HashMap<CustomerId, Entry>>,
    reads: Arc<Semaphore>,
}

impl Default for Kept {
    fn default() -> Self {
        Self { entries: Mutex::default(), reads: Arc::new(Semaphore::new(READ_AT_ONCE)) }
    }
}

impl Kept {
    /// The alerts that were just read.
    pub(in crate::dashboard) fn fresh(&self, customer: CustomerId) -> Option<Arc<Known>> {
        self.last(customer).filter(|known| known.at.elapsed() < FRESH)
    }

    /// The alerts that were read last.
    pub(in crate::dashboard) fn last(&self, customer: CustomerId) -> Option<Arc<Known>> {
        self.entries().get(&customer).and_then(|entry| entry.known.clone())
    }

    /// Keeps what was read now.
    pub(in crate::dashboard) fn put(&self, customer: CustomerId, alerts: Vec<Alert>) -> Arc<Known> {
        let now = Instant::now();
        let known = Arc::new(Known { at: now, alerts });
        self.keep(customer, Entry { tried: now, known: Some(Arc::clone(&known)) });
        known
    }

    /// The number of alerts; `None` if it is not known.
    pub(in crate::dashboard) fn count(&self, customer: CustomerId) -> Option<usize> {
        let known = self.last(customer)?;
        (known.at.elapsed() < COUNT_SHOWN_FOR).then_some(known.alerts.len())
    }

    /// Reads the alerts in the background if they are old, for the next page.
    pub(in crate::dashboard) fn refresh(self: &Arc<Self>, control: &Control, actor: &Actor) {
        let Ok(customer) = actor.customer() else { return };
        if actor.require(Scope::Read).is_err() || !self.is_due(customer, Instant::now()) {
            return;
        }
        let Ok(permit) = Arc::clone(&self.reads).try_acquire_owned() else { return };
        let (kept, control, actor) = (Arc::clone(self), control.clone(), actor.clone());
        self.tried(customer, Instant::now());
        tokio::spawn(async move {
            match overview::show(&control, &actor).await {
                Ok(found) => drop(kept.put(customer, found.findings.into_iter().map(super::of).collect())),
                Err(error) => tracing::debug!(?error, "the alerts for the navigation could not be read"),
            }
            drop(permit);
        });
    }

    fn is_due(&self, customer: CustomerId, now: Instant) -> bool {
        let entries = self.entries();
        entries.get(&customer).is_none_or(|entry| now.saturating_duration_since(entry.tried) >= COUNTED_AGAIN_AFTER)
    }

    fn tried(&self, customer: CustomerId, now: Instant) {
        let known = self.last(customer);
        self.keep(customer, Entry { tried: now, known });
    }

    fn keep(&self, customer: CustomerId, entry: Entry) {
        let mut entries = self.entries();
        if entries.len() >= MOST_KEPT && !entries.contains_key(&customer) {
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.tried).map(|(customer, _)| *customer);
            oldest.map(|oldest| entries.remove(&oldest));
        }
        entries.insert(customer, entry);
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<CustomerId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn customer(number: u8) -> CustomerId {
        CustomerId::mint(1, [number; 10])
    }

    #[test]
    fn the_number_is_that_of_the_customer_and_is_read_again_when_it_is_old() {
        let kept = Kept::default();
        assert_eq!(kept.count(customer(1)), None);
        assert!(kept.is_due(customer(1), Instant::now()));
        kept.put(customer(1), Vec::new());
        assert_eq!((kept.count(customer(1)), kept.count(customer(2))), (Some(0), None));
        let now = Instant::now();
        assert!(!kept.is_due(customer(1), now) && kept.is_due(customer(1), now + COUNTED_AGAIN_AFTER));
        // A read that fails is not repeated at once, and what is known stays.
        kept.tried(customer(1), now + COUNTED_AGAIN_AFTER);
        assert!(!kept.is_due(customer(1), now + COUNTED_AGAIN_AFTER));
        assert_eq!(kept.count(customer(1)), Some(0));
    }

    #[test]
    fn no_more_customers_are_kept_than_the_limit() {
        let kept = Kept::default();
        for number in 0..=MOST_KEPT {
            let bytes = u16::try_from(number).expect("small").to_be_bytes();
            let mut random = [0; 10];
            random[..2].copy_from_slice(&bytes);
            kept.put(CustomerId::mint(1, random), Vec::new());
        }
        assert_eq!(kept.entries().len(), MOST_KEPT);
    }
}
