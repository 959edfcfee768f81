//! The names of the customers in the rows of a list. Only a list of all customers shows them.

use std::collections::HashMap;
use std::hash::Hash;

use shared::id::{CustomerId, DeliveryId, EventId, SourceId};
use store::owned;

use super::{Actor, Control, Error};

/// The name of the customer that owns each row of a list; empty for a list of one customer.
pub(super) struct Owners<T>(HashMap<T, String>);

impl<T: Copy + Eq + Hash> Owners<T> {
    /// The owners of rows, from the ids of the rows and of their customers.
    ///
    /// # Errors
    /// Returns an error if the query fails.
    pub(super) async fn named(
        control: &Control,
        actor: &Actor,
        rows: impl IntoIterator<Item = (T, CustomerId)>,
    ) -> Result<Self, Error> {
        if actor.listed().is_some() {
            return Ok(Self(HashMap::new()));
        }
        let rows: Vec<(T, CustomerId)> = rows.into_iter().collect();
        let mut customers: Vec<CustomerId> = rows.iter().map(|(_, customer)| *customer).collect();
        customers.sort_unstable();
        customers.dedup();
        let names = store::customers::names(&control.pool, &customers).await?;
        let owner = |(row, customer): (T, CustomerId)| Some((row, names.get(&customer)?.clone()));
        Ok(Self(rows.into_iter().filter_map(owner).collect()))
    }

    /// The name of the customer that owns a row; `None` in a list of one customer.
    pub(super) fn of(&self, row: T) -> Option<String> {
        self.0.get(&row).cloned()
    }
}

/// Makes a constructor that reads the owners of rows from their ids.
macro_rules! owners {
    ($($id:ty: $name:ident, $read:path;)*) => {$(
        impl Owners<$id> {
            /// The owners of the rows with these ids.
            ///
            /// # Errors
            /// Returns an error if a query fails.
            pub(super) async fn $name(
                control: &Control,
                actor: &Actor,
                ids: impl IntoIterator<Item = $id>,
            ) -> Result<Self, Error> {
                if actor.listed().is_some() {
                    return Ok(Self(HashMap::new()));
                }
                let ids: Vec<$id> = ids.into_iter().collect();
                Self::named(control, actor, $read(&control.pool, &ids).await?).await
            }
        }
    )*};
}

owners! {
    EventId: of_events, owned::events;
    DeliveryId: of_deliveries, owned::deliveries;
    SourceId: of_sources, owned::sources;
}
