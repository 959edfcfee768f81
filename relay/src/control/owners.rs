//! The names of the customers in the rows of a list. Only a list of all customers shows them.

use std::collections::HashMap;

use store::owned;
use uuid::Uuid;

use super::{Actor, Control, Error};

/// The name of the customer that owns each row of a list; empty for a list of one customer.
pub(super) struct Owners(HashMap<Uuid, String>);

impl Owners {
    /// The owners of rows, from the ids of the rows and of their customers.
    ///
    /// # Errors
    /// Returns an error if the query fails.
    pub(super) async fn named(
        control: &Control,
        actor: &Actor,
        rows: impl IntoIterator<Item = (Uuid, Uuid)>,
    ) -> Result<Self, Error> {
        if actor.listed().is_some() {
            return Ok(Self(HashMap::new()));
        }
        let rows: Vec<(Uuid, Uuid)> = rows.into_iter().collect();
        let mut customers: Vec<Uuid> = rows.iter().map(|(_, customer)| *customer).collect();
        customers.sort_unstable();
        customers.dedup();
        let names = store::customers::names(&control.pool, &customers).await?;
        let owner = |(row, customer): (Uuid, Uuid)| Some((row, names.get(&customer)?.clone()));
        Ok(Self(rows.into_iter().filter_map(owner).collect()))
    }

    /// The owners of these events.
    ///
    /// # Errors
    /// Returns an error if a query fails.
    pub(super) async fn of_events(control: &Control, actor: &Actor, ids: &[Uuid]) -> Result<Self, Error> {
        let owned = if actor.listed().is_none() { owned::events(&control.pool, ids).await? } else { HashMap::new() };
        Self::named(control, actor, owned).await
    }

    /// The owners of these deliveries.
    ///
    /// # Errors
    /// Returns an error if a query fails.
    pub(super) async fn of_deliveries(control: &Control, actor: &Actor, ids: &[Uuid]) -> Result<Self, Error> {
        let owned =
            if actor.listed().is_none() { owned::deliveries(&control.pool, ids).await? } else { HashMap::new() };
        Self::named(control, actor, owned).await
    }

    /// The owners of these sources.
    ///
    /// # Errors
    /// Returns an error if a query fails.
    pub(super) async fn of_sources(control: &Control, actor: &Actor, ids: &[Uuid]) -> Result<Self, Error> {
        let owned = if actor.listed().is_none() { owned::sources(&control.pool, ids).await? } else { HashMap::new() };
        Self::named(control, actor, owned).await
    }

    /// The name of the customer that owns a row; `None` in a list of one customer.
    pub(super) fn of(&self, row: Uuid) -> Option<String> {
        self.0.get(&row).cloned()
    }
}
