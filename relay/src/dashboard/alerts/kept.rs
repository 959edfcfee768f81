//! The last alerts of each customer: the navigation of every page shows their number without a query of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::id::CustomerId;
use tokio::sync::Semaphore;

use super::Alert;
use crate::control::{Actor, Control, Error, Scope, overview};
use crate::dashboard::kept::{Kept, Shown};

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

/// The last alerts of each customer.
#[derive(Debug)]
pub(in crate::dashboard) struct Alerts {
    last: Kept<CustomerId, Vec<Alert>>,
    reads: Arc<Semaphore>,
}

impl Default for Alerts {
    fn default() -> Self {
        Self { last: Kept::new(MOST_KEPT), reads: Arc::new(Semaphore::new(READ_AT_ONCE)) }
    }
}

impl Alerts {
    /// The alerts of the customer for whom the actor acts.
    ///
    /// # Errors
    /// Returns an error if the actor may not read, or if a query fails.
    pub(in crate::dashboard) async fn read(
        &self,
        control: &Control,
        actor: &Actor,
    ) -> Result<Shown<Vec<Alert>>, Error> {
        // Also for what is kept: it was read for another viewer.
        actor.require(Scope::Read)?;
        self.last.read(actor.customer()?, FRESH, async || read(control, actor).await).await
    }

    /// Keeps what was read now.
    pub(in crate::dashboard) fn put(&self, customer: CustomerId, alerts: Vec<Alert>) {
        self.last.put(customer, alerts);
    }

    /// The number of alerts; `None` if it is not known.
    pub(in crate::dashboard) fn count(&self, customer: CustomerId) -> Option<usize> {
        let known = self.last.last(customer)?;
        (known.at.elapsed() < COUNT_SHOWN_FOR).then_some(known.value.len())
    }

    /// Reads the alerts in the background if they are old, for the next page.
    pub(in crate::dashboard) fn refresh(self: &Arc<Self>, control: &Control, actor: &Actor) {
        let Ok(customer) = actor.customer() else { return };
        if actor.require(Scope::Read).is_err() || !self.is_due(customer, Instant::now()) {
            return;
        }
        let Ok(permit) = Arc::clone(&self.reads).try_acquire_owned() else { return };
        let (kept, control, actor) = (Arc::clone(self), control.clone(), actor.clone());
        self.last.trying(customer, Instant::now());
        tokio::spawn(async move {
            match read(&control, &actor).await {
                Ok(alerts) => kept.put(customer, alerts),
                Err(error) => tracing::debug!(?error, "the alerts for the navigation could not be read"),
            }
            drop(permit);
        });
    }

    fn is_due(&self, customer: CustomerId, now: Instant) -> bool {
        let tried = self.last.tried(customer);
        tried.is_none_or(|tried| now.saturating_duration_since(tried) >= COUNTED_AGAIN_AFTER)
    }
}

async fn read(control: &Control, actor: &Actor) -> Result<Vec<Alert>, Error> {
    Ok(overview::show(control, actor).await?.findings.into_iter().map(super::of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn customer(number: u8) -> CustomerId {
        CustomerId::mint(1, [number; 10])
    }

    #[test]
    fn the_number_is_that_of_the_customer_and_is_read_again_when_it_is_old() {
        let kept = Alerts::default();
        assert_eq!(kept.count(customer(1)), None);
        assert!(kept.is_due(customer(1), Instant::now()));
        kept.put(customer(1), Vec::new());
        assert_eq!((kept.count(customer(1)), kept.count(customer(2))), (Some(0), None));
        let now = Instant::now();
        assert!(!kept.is_due(customer(1), now) && kept.is_due(customer(1), now + COUNTED_AGAIN_AFTER));
        // A read that fails is not repeated at once, and what is known stays.
        kept.last.trying(customer(1), now + COUNTED_AGAIN_AFTER);
        assert!(!kept.is_due(customer(1), now + COUNTED_AGAIN_AFTER));
        assert_eq!(kept.count(customer(1)), Some(0));
    }

    #[test]
    fn no_more_customers_are_kept_than_the_limit() {
        let kept = Alerts::default();
        for number in 0..=MOST_KEPT {
            let bytes = u16::try_from(number).expect("small").to_be_bytes();
            let mut random = [0; 10];
            random[..2].copy_from_slice(&bytes);
            kept.put(CustomerId::mint(1, random), Vec::new());
        }
        assert_eq!(kept.last.len(), MOST_KEPT);
    }
}
