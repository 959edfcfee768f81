//! The names of what a customer owns, for interfaces that offer them for choice.

use shared::id::{DestinationId, SourceId};

use super::{Actor, Control, Error, Scope};

/// The most names of each kind.
pub(crate) const MOST_NAMES: usize = 500;

/// The names of a customer's sources and destinations, in alphabetical order.
#[derive(Debug, Default)]
pub struct Names {
    pub sources: Vec<(SourceId, String)>,
    pub destinations: Vec<(DestinationId, String)>,
}

/// The names of what the actor sees. Beyond 500 of a kind they are left out.
///
/// # Errors
/// Returns an error if the actor may not read.
pub fn names(control: &Control, actor: &Actor) -> Result<Names, Error> {
    actor.require(Scope::Read)?;
    let snapshot = control.configuration.current();
    let is_listed = |owner| actor.listed().is_none_or(|listed| listed == owner);
    let sources = snapshot.sources.values().filter(|source| is_listed(source.customer_id));
    let sources = sources.map(|source| (source.id, source.name.clone()));
    let usable = snapshot.destinations.values().filter(|destination| is_listed(destination.customer_id));
    let usable = usable.map(|destination| (destination.id, destination.name.clone()));
    let unusable = snapshot.unusable.iter().filter(|(_, destination)| is_listed(destination.customer_id));
    let unusable = unusable.map(|(id, destination)| (*id, destination.name.clone()));
    Ok(Names { sources: sorted(sources.collect()), destinations: sorted(usable.chain(unusable).collect()) })
}

/// The most names of customers.
pub(crate) const MOST_CUSTOMERS: u32 = 200;

/// The names of customers in alphabetical order. Beyond 200 they are left out.
///
/// # Errors
/// Returns an error if the actor may not read or is bound to a customer, or if the query fails.
pub async fn customers(control: &Control, actor: &Actor) -> Result<Vec<String>, Error> {
    actor.require(Scope::Read)?;
    actor.require_unbound()?;
    Ok(store::customers::first_names(&control.pool, i64::from(MOST_CUSTOMERS)).await?)
}

fn sorted<I>(mut names: Vec<(I, String)>) -> Vec<(I, String)> {
    names.sort_by(|(_, one), (_, other)| one.cmp(other));
    names.truncate(MOST_NAMES);
    names
}
