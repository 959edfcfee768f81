//! Customers: the owners of sources, destinations, routes, and of what belongs to them.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::id::{CustomerId, OperationId};
use store::Constraint;
use store::audit::NewEntry;
use store::customers::{self, Changed, Content, CustomerRow};
use store::deleted_customers::{self, Deleted};
use utoipa::ToSchema;

use super::error::{Conflict, Noun, conflict_of};
use super::fields::{Problems, optional_whole};
use super::operations::{self, Operation};
use super::page::{Page, PageRequest};
use super::patch::given;
use super::record::{self, Action, Object};
use super::saved::{Activity, Configured, Outcome, Precondition, Saved};
use super::scope::Scope;
use super::time::Timestamp;
use super::{Actor, Control, Error, name, overview, schema};
use crate::history::Retention;
use crate::mint;

/// The name of the default customer, which is fixed: callers name it, and the edge leaves it out of URLs.
pub(crate) const DEFAULT_NAME: &str = "default";

/// The largest limit of the number of sources or destinations of a customer.
pub(crate) const MAX_LIMIT: i32 = 1_000_000;

/// The largest limit of the events of a customer per minute.
pub(crate) const MAX_EVENTS_PER_MINUTE: i32 = 10_000_000;

/// A customer.
#[derive(Debug, Serialize, ToSchema)]
pub struct Customer {
    /// The id of the customer.
    #[schema(value_type = schema::CustomerId)]
    pub id: CustomerId,
    /// The name, unique among customers.
    pub name: String,
    /// The maximum number of sources; null if there is no limit.
    #[schema(required = true)]
    pub max_sources: Option<i32>,
    /// The maximum number of destinations; null if there is no limit.
    #[schema(required = true)]
    pub max_destinations: Option<i32>,
    /// The maximum number of events per minute; null if there is no limit. Over it the edge answers 429 until the
    /// excess is made up for, for at least a minute and at most an hour.
    #[schema(required = true)]
    pub max_events_per_minute: Option<i32>,
    /// Until when the edge answers 429, because the customer has sent too many events; null if it accepts events.
    #[schema(required = true)]
    pub refused_until: Option<Timestamp>,
    /// For how many days the bodies of the customer's events are kept; null if for as long as those of the deployment
    /// (`TIDEGATE_BODY_RETENTION_DAYS`).
    #[schema(required = true)]
    pub body_retention_days: Option<i16>,
    /// When the customer was created.
    pub created_at: Timestamp,
    /// When the customer was last changed.
    pub updated_at: Timestamp,
}

impl Configured for Customer {
    fn changed_at(&self) -> Timestamp {
        self.updated_at
    }
}

/// The settings of a customer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomerSpec {
    /// 1 to 64 characters: a–z, 0–9, `-` and `_`. Required when creating with POST; PUT takes the name from the path.
    #[schema(value_type = Option<schema::CustomerName>)]
    pub name: Option<String>,
    /// The maximum number of sources. If omitted or null, there is no limit.
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 0, maximum = 1_000_000)]
    pub max_sources: Option<i64>,
    /// The maximum number of destinations. If omitted or null, there is no limit.
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 0, maximum = 1_000_000)]
    pub max_destinations: Option<i64>,
    /// The maximum number of events per minute. If omitted or null, there is no limit. A change lifts a refusal, and
    /// the events until then do not count.
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 1, maximum = 10_000_000)]
    pub max_events_per_minute: Option<i64>,
    /// For how many days the bodies of the customer's events are kept: at most as long as those of the deployment
    /// (`TIDEGATE_BODY_RETENTION_DAYS`). A body that a pending delivery needs is kept until it has ended. If omitted or
    /// null, bodies are kept for as long as those of the deployment.
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 1, maximum = 3650)]
    pub body_retention_days: Option<i64>,
}

/// Changes to a customer, as a JSON merge patch (RFC 7396). Omitted fields are unchanged.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomerPatch {
    /// The new name. The ingest URLs with the name of the customer change with it. The default customer cannot be
    /// renamed.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = schema::CustomerName, required = false)]
    pub name: Option<String>,
    /// The maximum number of sources. Null removes the limit.
    #[serde(default, deserialize_with = "given_whole")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 1_000_000)]
    pub max_sources: Option<Option<i64>>,
    /// The maximum number of destinations. Null removes the limit.
    #[serde(default, deserialize_with = "given_whole")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 1_000_000)]
    pub max_destinations: Option<Option<i64>>,
    /// The maximum number of events per minute. Null removes the limit. A change lifts a refusal, and the events until
    /// then do not count.
    #[serde(default, deserialize_with = "given_whole")]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 10_000_000)]
    pub max_events_per_minute: Option<Option<i64>>,
    /// For how many days the bodies of the customer's events are kept: at most as long as those of the deployment. Null
    /// keeps them for as long as those of the deployment.
    #[serde(default, deserialize_with = "given_whole")]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 3650)]
    pub body_retention_days: Option<Option<i64>>,
}

fn given_whole<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<i64>>, D::Error> {
    optional_whole(deserializer).map(Some)
}

/// Creates a customer.
///
/// # Errors
/// Returns every invalid field, a conflict if the name is taken, or an error if a query fails.
pub async fn create(control: &Control, actor: &Actor, spec: CustomerSpec) -> Result<Saved<Customer>, Error> {
    actor.require(Scope::Admin)?;
    let mut problems = Problems::default();
    let name = name::required_of_customer(spec.name.as_deref(), &mut problems);
    let content = spec.content(name, control.config.retention, problems)?;
    let record = |before: Option<&CustomerRow>, after: Option<&CustomerRow>| {
        if let Some(row) = after {
            actor.answers_with(control, Outcome::Created, &view(row.clone()));
        }
        record(actor)(before, after)
    };
    let inserted = customers::insert(&control.pool, CustomerId::from_uuid(mint::uuid()), &content, record).await;
    inserted.map(|row| Saved::new(view(row), true, Activity::Active)).map_err(taken)
}

/// A page of customers, newest first.
///
/// # Errors
/// Returns an error if the limit or the cursor is invalid, or if a query fails.
pub async fn list(control: &Control, actor: &Actor, page: &PageRequest) -> Result<Page<Customer>, Error> {
    actor.require(Scope::Admin)?;
    let window = page.window()?;
    let rows = customers::page(&control.pool, window.cursor, window.fetch()).await?;
    Ok(window.page(rows, |row| row.id.uuid(), view))
}

/// The customer with this id or name.
///
/// # Errors
/// Returns an error if the customer does not exist, or if a query fails.
pub async fn show(control: &Control, actor: &Actor, id: &str) -> Result<Customer, Error> {
    actor.require(Scope::Admin)?;
    find(control, id).await.map(view)
}

/// Creates the customer with this name, or replaces its limits.
///
/// # Errors
/// Returns every invalid field, [`Error::Changed`] if the precondition is not met, or an error if a query fails.
pub async fn put(
    control: &Control,
    actor: &Actor,
    name: &str,
    spec: CustomerSpec,
    when: &Precondition,
) -> Result<Saved<Customer>, Error> {
    actor.require(Scope::Admin)?;
    let mut problems = Problems::default();
    name::check_path_of_customer(name, spec.name.as_deref(), &mut problems);
    let content = spec.content(name.to_owned(), control.config.retention, problems)?;
    let plan = |before: Option<&CustomerRow>| when.check(before.map(|row| row.updated_at)).map(|()| content);
    let put = customers::put(&control.pool, name, CustomerId::from_uuid(mint::uuid()), plan, record(actor)).await?;
    Ok(activated(control, put).await)
}

/// Changes some settings of a customer. If its name or its limit of events changes, its sources are written to the
/// edge.
///
/// # Errors Returns every invalid field, a conflict if the name is taken or the default customer would be renamed, or
/// an error if the customer does not exist or a query fails. [`Error::Changed`] if the precondition is not met.
pub async fn change(
    control: &Control,
    actor: &Actor,
    id: &str,
    patch: CustomerPatch,
    when: &Precondition,
) -> Result<Saved<Customer>, Error> {
    actor.require(Scope::Admin)?;
    let mut problems = Problems::default();
    if let Some(name) = patch.name.as_deref() {
        name::required_of_customer(Some(name), &mut problems);
    }
    let limits = patch.limits(control.config.retention, &mut problems);
    problems.finish()?;
    let plan = |row: &CustomerRow| when.check(Some(row.updated_at)).and_then(|()| patch.content(row, limits));
    let (id, name) = name::id_or_name(id);
    let changed = customers::change(&control.pool, id, name, plan, record(actor)).await?;
    Ok(activated(control, changed.ok_or(Error::NotFound(Noun::Customer))?).await)
}

/// Deletes a customer: it can do nothing any more, and an operation deletes what it owned.
///
/// # Errors
/// Returns a conflict for the default customer, [`Error::Changed`] if the precondition is not met, or an error if the
/// customer does not exist or a query fails.
pub async fn delete(control: &Control, actor: &Actor, id: &str, when: &Precondition) -> Result<Operation, Error> {
    actor.require(Scope::Admin)?;
    let (id, name) = name::id_or_name(id);
    let operation = OperationId::from_uuid(mint::uuid());
    let record = |row: &CustomerRow| record(actor)(Some(row), None);
    let check = |row: &CustomerRow| when.check(Some(row.updated_at));
    match deleted_customers::delete(&control.pool, id, name, operation, check, record).await? {
        None => Err(Error::NotFound(Noun::Customer)),
        Some(Deleted::Default) => Err(Error::Conflict(Conflict::DefaultCustomer)),
        Some(Deleted::Begun { operation, version }) => {
            control.wakers.operations.notify_one();
            control.wakers.deletions.notify_one();
            let _ = control.active(version).await;
            Ok(operations::view(*operation))
        }
    }
}

/// What a customer owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owned {
    pub sources: usize,
    pub destinations: usize,
    pub routes: usize,
}

/// What a customer owns, and a deletion of it would stop.
///
/// # Errors
/// Returns an error if the actor may not administer the deployment.
pub fn owned(control: &Control, actor: &Actor, customer: CustomerId) -> Result<Owned, Error> {
    actor.require(Scope::Admin)?;
    let (sources, destinations, routes) = overview::counts(&control.configuration.current(), customer);
    Ok(Owned { sources, destinations, routes })
}

/// The customer with this id or name.
pub(super) async fn find(control: &Control, text: &str) -> Result<CustomerRow, Error> {
    let (id, name) = name::id_or_name(text);
    customers::find(&control.pool, id, name).await?.ok_or(Error::NotFound(Noun::Customer))
}

/// Makes the entry of a change from the rows before and after it.
fn record(actor: &Actor) -> impl FnOnce(Option<&CustomerRow>, Option<&CustomerRow>) -> NewEntry {
    move |before, after| {
        let actions = [Action::CustomerCreate, Action::CustomerUpdate, Action::CustomerDelete];
        let action = record::action(before, after, actions);
        let object = after.or(before).map(|row| Object::of(row.id, row.id).named(&row.name)).unwrap_or_default();
        record::entry(actor, action, object).with(before.map(settings_of), after.map(settings_of), [])
    }
}

fn settings_of(row: &CustomerRow) -> Value {
    let CustomerRow { name, max_sources, max_destinations, max_events_per_minute, body_retention_days, .. } = row;
    json!({
        "name": name, "max_sources": max_sources, "max_destinations": max_destinations,
        "max_events_per_minute": max_events_per_minute, "body_retention_days": body_retention_days,
    })
}

/// Waits until a change is active, and returns the customer as the change left it.
async fn activated(control: &Control, changed: Changed) -> Saved<Customer> {
    if changed.edge_is_behind {
        control.pusher.pending.notify_one();
    }
    let activity = match changed.version {
        Some(version) => control.active(version).await,
        None => Activity::Active,
    };
    if changed.row.body_retention_days.is_some() {
        control.wakers.body_retention.notify_one();
    }
    Saved::new(view(changed.row), changed.before.is_none(), activity)
}

fn taken(error: store::Error) -> Error {
    conflict_of(&[(Constraint::CustomerName, Conflict::NameTaken)])(error)
}

impl CustomerSpec {
    fn content(self, name: String, retention: Retention, mut problems: Problems) -> Result<Content, Error> {
        let max_sources = limit("max_sources", self.max_sources, &mut problems);
        let max_destinations = limit("max_destinations", self.max_destinations, &mut problems);
        let max_events_per_minute = rate(self.max_events_per_minute, &mut problems);
        let body_retention_days = retention_days(self.body_retention_days, retention, &mut problems);
        problems.finish()?;
        Ok(Content { name, max_sources, max_destinations, max_events_per_minute, body_retention_days })
    }
}

/// The limits that a patch sets.
#[derive(Clone, Copy)]
struct Limits {
    max_sources: Option<Option<i32>>,
    max_destinations: Option<Option<i32>>,
    max_events_per_minute: Option<Option<i32>>,
    body_retention_days: Option<Option<i16>>,
}

impl CustomerPatch {
    fn limits(&self, retention: Retention, problems: &mut Problems) -> Limits {
        let mut read = |field, given: Option<Option<i64>>| given.map(|given| limit(field, given, problems));
        let max_sources = read("max_sources", self.max_sources);
        let max_destinations = read("max_destinations", self.max_destinations);
        let max_events_per_minute = self.max_events_per_minute.map(|given| rate(given, problems));
        let body_retention_days = self.body_retention_days.map(|given| retention_days(given, retention, problems));
        Limits { max_sources, max_destinations, max_events_per_minute, body_retention_days }
    }

    /// The content of the customer after this patch.
    fn content(self, row: &CustomerRow, limits: Limits) -> Result<Content, Error> {
        let name = self.name.unwrap_or_else(|| row.name.clone());
        if row.id == store::DEFAULT_CUSTOMER && name != row.name {
            return Err(Error::Conflict(Conflict::DefaultCustomer));
        }
        Ok(Content {
            name,
            max_sources: limits.max_sources.unwrap_or(row.max_sources),
            max_destinations: limits.max_destinations.unwrap_or(row.max_destinations),
            max_events_per_minute: limits.max_events_per_minute.unwrap_or(row.max_events_per_minute),
            body_retention_days: limits.body_retention_days.unwrap_or(row.body_retention_days),
        })
    }
}

fn limit(field: &str, given: Option<i64>, problems: &mut Problems) -> Option<i32> {
    problems.range(field, given?, 0, MAX_LIMIT)
}

fn rate(given: Option<i64>, problems: &mut Problems) -> Option<i32> {
    problems.range("max_events_per_minute", given?, 1, MAX_EVENTS_PER_MINUTE)
}

/// A retention of bodies, which is at most that of the deployment: partitions are dropped with all bodies of a day.
fn retention_days(given: Option<i64>, retention: Retention, problems: &mut Problems) -> Option<i16> {
    let days = problems.range("body_retention_days", given?, 1, retention.body_days.into());
    days.and_then(|days| i16::try_from(days).ok())
}

fn view(row: CustomerRow) -> Customer {
    Customer {
        id: row.id,
        name: row.name,
        max_sources: row.max_sources,
        max_destinations: row.max_destinations,
        max_events_per_minute: row.max_events_per_minute,
        refused_until: row.refused_until.map(Timestamp),
        body_retention_days: row.body_retention_days,
        created_at: Timestamp(row.created_at),
        updated_at: Timestamp(row.updated_at),
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    fn row(id: CustomerId, name: &str) -> CustomerRow {
        let at = OffsetDateTime::UNIX_EPOCH;
        CustomerRow {
            id,
            name: name.to_owned(),
            max_sources: Some(3),
            max_destinations: None,
            max_events_per_minute: Some(600),
            refused_until: None,
            body_retention_days: Some(7),
            created_at: at,
            updated_at: at,
        }
    }

    fn patched(row: &CustomerRow, patch: &str) -> Result<Content, Error> {
        let patch: CustomerPatch = serde_json::from_str(patch).expect("a patch");
        let mut problems = Problems::default();
        let retention = Retention { body_days: 30, metadata_days: 90, dedupe_days: 3 };
        let limits = patch.limits(retention, &mut problems);
        problems.finish()?;
        patch.content(row, limits)
    }

    #[test]
    fn a_patch_changes_what_it_names() {
        let acme = row(CustomerId::mint(1, [1; 10]), "acme");
        let changed = patched(&acme, r#"{"max_destinations": 5}"#).expect("a content");
        assert_eq!((changed.name.as_str(), changed.max_sources, changed.max_destinations), ("acme", Some(3), Some(5)));
        let changed = patched(&acme, r#"{"name": "acme-2", "max_sources": null}"#).expect("a content");
        assert_eq!((changed.name.as_str(), changed.max_sources), ("acme-2", None));
        assert_eq!(changed.max_events_per_minute, Some(600));
        let changed = patched(&acme, r#"{"max_events_per_minute": 1}"#).expect("a content");
        assert_eq!((changed.max_sources, changed.max_events_per_minute), (Some(3), Some(1)));
        let changed = patched(&acme, r#"{"max_events_per_minute": null}"#).expect("a content");
        assert_eq!(changed.max_events_per_minute, None);
        for wrong in [r#"{"max_sources": -1}"#, r#"{"max_events_per_minute": 0}"#] {
            assert!(matches!(patched(&acme, wrong), Err(Error::Invalid(_))), "{wrong}");
        }
        assert!(serde_json::from_str::<CustomerPatch>(r#"{"name": null}"#).is_err());
        assert_eq!(changed.body_retention_days, Some(7));
        let days = |text: &str| patched(&acme, text).map(|content| content.body_retention_days).ok();
        assert_eq!(days(r#"{"body_retention_days": 30}"#), Some(Some(30)));
        assert_eq!(days(r#"{"body_retention_days": null}"#), Some(None));
        for bad in [0, 31] {
            assert_eq!(days(&format!("{{\"body_retention_days\": {bad}}}")), None, "{bad}");
        }
    }

    #[test]
    fn the_default_customer_keeps_its_name() {
        let default = row(store::DEFAULT_CUSTOMER, DEFAULT_NAME);
        assert!(matches!(patched(&default, r#"{"name": "main"}"#), Err(Error::Conflict(Conflict::DefaultCustomer))));
        assert!(patched(&default, r#"{"name": "default", "max_sources": 1}"#).is_ok());
    }
}
