//! Finds any object by its id, by the provider's id, or by its name.

use shared::id::{
    AttemptId, CustomerId, DeliveryId, DestinationId, EventId, OperationId, RejectionId, ReplayId, RouteId, SourceId,
    TokenId, UnreadableMessageId, parts,
};
use store::routes::RouteRow;
use store::{customers, deliveries, events as stored, operations, owned, rejections, routes, tokens, unreadable};

use super::events::{self, EventFilter};
use super::owners::Owners;
use super::page::PageRequest;
use super::{Actor, Control, Error, Scope, name};

/// The longest text that is searched for, in bytes.
pub(crate) const MAX_TEXT_BYTES: usize = 512;

/// The most objects of each kind that are found by a name, and events by the provider's id.
pub(crate) const MOST_OF_A_KIND: u16 = 10;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    Event(EventId),
    Delivery(DeliveryId),
    /// An attempt, and its delivery.
    Attempt(AttemptId, DeliveryId),
    Source(SourceId),
    Destination(DestinationId),
    Route(RouteId),
    Replay(ReplayId),
    Operation(OperationId),
    /// A rejection, and its source.
    Rejection(RejectionId, SourceId),
    UnreadableMessage(UnreadableMessageId),
    Customer(CustomerId),
    Token(TokenId),
}

/// A result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    pub found: Found,
    /// The name of the object, or what it was found by.
    pub label: String,
    /// The name of the customer that owns it, if the actor acts for all customers.
    pub customer: Option<String>,
}

/// The results of a search.
#[derive(Debug, Default)]
pub struct Hits {
    pub hits: Vec<Hit>,
    /// What was searched, in words.
    pub searched: Vec<&'static str>,
}

/// Finds what a text names. A text that has the form of an id is looked up as that. Any other text is compared with the
/// provider's ids of events, the ids of jobs, and the names of sources, destinations, routes and customers. Only what
/// the actor may see is found.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn find(control: &Control, actor: &Actor, text: &str) -> Result<Hits, Error> {
    actor.require(Scope::Read)?;
    let text = text.trim();
    if text.is_empty() || text.len() > MAX_TEXT_BYTES || text.contains('\0') {
        return Ok(Hits::default());
    }
    if let Some((prefix, _)) = parts(text) {
        let (searched, found) = by_id(control, actor, prefix, text).await?;
        if let Some(searched) = searched {
            return Ok(Hits { hits: found.into_iter().collect(), searched: vec![searched] });
        }
    }
    let mut named = by_name(control, actor, text);
    named.extend(routes_named(control, actor, text).await?);
    let mut hits = with_owners(control, actor, named).await?;
    hits.extend(customer_named(control, actor, text).await?);
    for filter in [
        EventFilter { key: Some(text.to_owned()), ..EventFilter::default() },
        EventFilter { job_key: Some(text.to_owned()), ..EventFilter::default() },
    ] {
        let page = PageRequest { limit: Some(MOST_OF_A_KIND.into()), cursor: None };
        for event in events::list(control, actor, filter, &page).await?.data {
            let found = Found::Event(event.id);
            if hits.iter().all(|hit| hit.found != found) {
                let label = event.event_type.unwrap_or_else(|| "event without a type".to_owned());
                hits.push(Hit { found, label, customer: event.customer });
            }
        }
    }
    let mut searched =
        vec!["provider's ids of events", "ids of jobs", "names of sources", "names of destinations", "names of routes"];
    if actor.bound_to().is_none() {
        searched.push("names of customers");
    }
    Ok(Hits { hits, searched })
}

/// The object with an id of this kind; without a text of what was searched if there is no such kind.
async fn by_id(
    control: &Control,
    actor: &Actor,
    prefix: &str,
    text: &str,
) -> Result<(Option<&'static str>, Option<Hit>), Error> {
    let (searched, found) = match prefix {
        EventId::PREFIX => ("events and their copies", event(control, text).await?),
        DeliveryId::PREFIX => ("deliveries", delivery(control, text).await?),
        AttemptId::PREFIX => ("attempts", attempt(control, text).await?),
        SourceId::PREFIX => ("sources", source(control, text).await?),
        DestinationId::PREFIX => ("destinations", destination(control, text)),
        RouteId::PREFIX => ("routes", route(control, text)),
        ReplayId::PREFIX => ("replays", replay(control, text).await?),
        RejectionId::PREFIX => ("rejections", rejection(control, text).await?),
        OperationId::PREFIX => return Ok((Some("operations"), operation(control, actor, text).await?)),
        UnreadableMessageId::PREFIX | CustomerId::PREFIX | TokenId::PREFIX => {
            return Ok((Some("unreadable messages, customers and tokens"), of_deployment(control, actor, text).await?));
        }
        _ => return Ok((None, None)),
    };
    let Some((found, owner)) = found else { return Ok((Some(searched), None)) };
    if actor.listed().is_some_and(|listed| listed != owner) {
        return Ok((Some(searched), None));
    }
    let mut hits = with_owners(control, actor, vec![(found, text.to_owned(), owner)]).await?;
    Ok((Some(searched), hits.pop()))
}

type Owned = Option<(Found, CustomerId)>;

/// A result with its label and its owner.
type Named = (Found, String, CustomerId);

/// The results, with the names of their owners if the actor acts for all customers.
async fn with_owners(control: &Control, actor: &Actor, found: Vec<Named>) -> Result<Vec<Hit>, Error> {
    let rows = found.iter().enumerate().map(|(at, (.., owner))| (at, *owner));
    let owners = Owners::named(control, actor, rows).await?;
    let hits =
        found.into_iter().enumerate().map(|(at, (found, label, _))| Hit { found, label, customer: owners.of(at) });
    Ok(hits.collect())
}

async fn event(control: &Control, text: &str) -> Result<Owned, Error> {
    let Ok(id) = text.parse::<EventId>() else { return Ok(None) };
    if let Some(owner) = owned::events(&control.pool, &[id]).await?.remove(&id) {
        return Ok(Some((Found::Event(id), owner)));
    }
    let Some(event) = stored::of_copy(&control.pool, id).await? else { return Ok(None) };
    let owner = owned::events(&control.pool, &[event]).await?.remove(&event);
    Ok(owner.map(|owner| (Found::Event(id), owner)))
}

async fn delivery(control: &Control, text: &str) -> Result<Owned, Error> {
    let Ok(id) = text.parse::<DeliveryId>() else { return Ok(None) };
    let owner = owned::deliveries(&control.pool, &[id]).await?.remove(&id);
    Ok(owner.map(|owner| (Found::Delivery(id), owner)))
}

async fn attempt(control: &Control, text: &str) -> Result<Owned, Error> {
    let Ok(id) = text.parse::<AttemptId>() else { return Ok(None) };
    let Some(of) = deliveries::of_attempt(&control.pool, id).await? else { return Ok(None) };
    let owner = owned::deliveries(&control.pool, &[of]).await?.remove(&of);
    Ok(owner.map(|owner| (Found::Attempt(id, of), owner)))
}

async fn source(control: &Control, text: &str) -> Result<Owned, Error> {
    let Ok(id) = text.parse::<SourceId>() else { return Ok(None) };
    let owner = owned::sources(&control.pool, &[id]).await?.remove(&id);
    Ok(owner.map(|owner| (Found::Source(id), owner)))
}

fn destination(control: &Control, text: &str) -> Owned {
    let id: DestinationId = text.parse().ok()?;
    let snapshot = control.configuration.current();
    snapshot.customer_and_name(id).map(|(owner, _)| (Found::Destination(id), owner))
}

fn route(control: &Control, text: &str) -> Owned {
    let id: RouteId = text.parse().ok()?;
    let snapshot = control.configuration.current();
    let source = snapshot.routes.get(&id)?.source_id;
    Some((Found::Route(id), snapshot.sources.get(&source)?.customer_id))
}

async fn replay(control: &Control, text: &str) -> Result<Owned, Error> {
    let Ok(id) = text.parse::<ReplayId>() else { return Ok(None) };
    Ok(owned::replay(&control.pool, id).await?.map(|owner| (Found::Replay(id), owner)))
}

async fn rejection(control: &Control, text: &str) -> Result<Owned, Error> {
    let Ok(id) = text.parse::<RejectionId>() else { return Ok(None) };
    let Some(source) = rejections::source_of(&control.pool, id).await? else { return Ok(None) };
    let owner = owned::sources(&control.pool, &[source]).await?.remove(&source);
    Ok(owner.map(|owner| (Found::Rejection(id, source), owner)))
}

/// An operation of the customer for whom the actor acts, or of any for one who acts for all.
async fn operation(control: &Control, actor: &Actor, text: &str) -> Result<Option<Hit>, Error> {
    let Ok(id) = text.parse::<OperationId>() else { return Ok(None) };
    let row = operations::find(&control.pool, actor.listed(), id).await?;
    Ok(row.map(|_| Hit { found: Found::Operation(id), label: text.to_owned(), customer: None }))
}

/// What belongs to no customer, for those who administer the deployment.
async fn of_deployment(control: &Control, actor: &Actor, text: &str) -> Result<Option<Hit>, Error> {
    if actor.require(Scope::Admin).is_err() || actor.require_unbound().is_err() {
        return Ok(None);
    }
    let found = if let Ok(id) = text.parse::<UnreadableMessageId>() {
        unreadable::summary(&control.pool, id).await?.map(|_| (Found::UnreadableMessage(id), text.to_owned()))
    } else if let Ok(id) = text.parse::<TokenId>() {
        tokens::find(&control.pool, id).await?.map(|row| (Found::Token(id), row.name))
    } else if let Ok(id) = text.parse::<CustomerId>() {
        customers::find(&control.pool, Some(id), None).await?.map(|row| (Found::Customer(id), row.name))
    } else {
        None
    };
    Ok(found.map(|(found, label)| Hit { found, label, customer: None }))
}

/// Sources and destinations whose names contain the text, the same name first.
fn by_name(control: &Control, actor: &Actor, text: &str) -> Vec<Named> {
    let snapshot = control.configuration.current();
    let wanted = text.to_lowercase();
    let is_listed = |owner| actor.listed().is_none_or(|listed| listed == owner);
    let sources = snapshot.sources.values().filter(|source| is_listed(source.customer_id));
    let sources = sources.map(|source| (Found::Source(source.id), source.name.as_str(), source.customer_id));
    let usable = snapshot.destinations.iter().filter(|(_, destination)| is_listed(destination.customer_id));
    let usable = usable.map(|(id, found)| (Found::Destination(*id), found.name.as_str(), found.customer_id));
    let unusable = snapshot.unusable.iter().filter(|(_, destination)| is_listed(destination.customer_id));
    let unusable = unusable.map(|(id, found)| (Found::Destination(*id), found.name.as_str(), found.customer_id));
    let mut hits = best(sources, &wanted);
    hits.extend(best(usable.chain(unusable), &wanted));
    hits
}

/// The names that contain the text: the same name first, then those that begin with it, then by the alphabet.
fn best<'a>(named: impl Iterator<Item = (Found, &'a str, CustomerId)>, wanted: &str) -> Vec<Named> {
    let mut found: Vec<_> = named.filter(|(_, name, _)| name.contains(wanted)).collect();
    found.sort_by_key(|(_, name, _)| (*name != wanted, !name.starts_with(wanted), *name));
    found.truncate(MOST_OF_A_KIND.into());
    found.into_iter().map(|(found, name, owner)| (found, name.to_owned(), owner)).collect()
}

/// The routes with this name.
async fn routes_named(control: &Control, actor: &Actor, text: &str) -> Result<Vec<Named>, Error> {
    let Some(name) = name::id_or_name::<RouteId>(text).1 else { return Ok(Vec::new()) };
    let rows = routes::page(&control.pool, actor.listed(), None, None, Some(name), None, MOST_OF_A_KIND.into()).await?;
    let snapshot = control.configuration.current();
    let owner = |source| snapshot.sources.get(&source).map(|source| source.customer_id);
    let named = |row: RouteRow| Some((Found::Route(row.id), name.to_owned(), owner(row.source_id)?));
    Ok(rows.into_iter().filter_map(named).collect())
}

/// The customer with this name, for an actor that is bound to none.
async fn customer_named(control: &Control, actor: &Actor, text: &str) -> Result<Option<Hit>, Error> {
    let Some(name) = name::id_or_name::<CustomerId>(text).1.filter(|_| actor.bound_to().is_none()) else {
        return Ok(None);
    };
    let row = customers::find(&control.pool, None, Some(name)).await?;
    Ok(row.map(|row| Hit { found: Found::Customer(row.id), label: row.name, customer: None }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_comes_first_and_then_those_that_begin_with_it() {
        let id = |number: u8| Found::Source(SourceId::mint(1, [number; 10]));
        let owner = CustomerId::mint(1, [9; 10]);
        let named = [("my-stripe", 1), ("stripe-live", 2), ("stripe", 3), ("github", 4)];
        let named = named.map(|(name, number)| (id(number), name, owner));
        let found: Vec<_> = best(named.into_iter(), "stripe").into_iter().map(|(_, name, _)| name).collect();
        assert_eq!(found, ["stripe", "stripe-live", "my-stripe"]);
        assert!(best(named.into_iter(), "none").is_empty());
    }
}
