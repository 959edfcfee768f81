//! Routes: which events of a source go to a destination, and in which form.

use std::collections::HashMap;

use expression::{ExpressionError, Filter, OrderKey, Transform};
use model::poison::Poison;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::id::{CustomerId, DestinationId, RouteId, SourceId};
use store::Constraint;
use store::audit::NewEntry;
use store::routes::{self, Changed, Content, Planned, RouteRow};
use utoipa::ToSchema;

use super::error::{Conflict, Noun, conflict_of};
use super::fields::{FieldError, Problems};
use super::owners::Owners;
use super::page::{Page, PageRequest, Window};
use super::patch::{dropped, given};
use super::record::{self, Action, Object};
use super::saved::{Activity, Configured, Outcome, Precondition, Saved};
use super::time::Timestamp;
use super::{Actor, Control, Error, Scope, destinations, event_types, name, schema, sources};
use crate::mint;

/// The settings of a route.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteSpec {
    /// The name, unique among the routes of a customer: 1 to 64 characters, a–z, 0–9, `-` and `_`. PUT by name takes it
    /// from the path. If it is omitted, a new route has no name, and a route that is replaced keeps the one that it has.
    #[schema(value_type = Option<schema::RouteName>)]
    pub name: Option<String>,
    /// The id or name of the source. Required when creating a route; cannot be changed later.
    #[schema(value_type = Option<schema::SourceReference>)]
    pub source: Option<String>,
    /// The id or name of the destination. Required when creating a route; cannot be changed later.
    #[schema(value_type = Option<schema::DestinationReference>)]
    pub destination: Option<String>,
    /// The types of events that the route takes, such as `invoice.paid`. They are compared exactly, and tested before
    /// the filter. An event without a type has none of them. If omitted or empty, the route takes events of every type.
    #[schema(value_type = Option<schema::EventTypes>)]
    pub types: Option<Vec<String>>,
    /// A CEL expression that returns true if an event matches the route. If omitted, every event matches.
    #[schema(value_type = Option<schema::FilterExpression>)]
    pub filter: Option<String>,
    /// A CEL expression that returns the body to send. If omitted, the original body is sent. When it is changed,
    /// pending deliveries still use the transform that was current when they were created; deliveries held because of
    /// their transform are released and use the new one. Manual retries, releases and replays always use the current
    /// transform. Removing the transform does not release held deliveries.
    #[schema(value_type = Option<schema::TransformExpression>)]
    pub transform: Option<String>,
    /// A CEL expression. Deliveries of this route with the same value are sent one after another, in the order in which
    /// their events were stored. If it returns null or an empty string, the delivery is not ordered. If omitted,
    /// deliveries are not ordered. Deliveries of replays are never ordered.
    #[schema(value_type = Option<schema::OrderKeyExpression>)]
    pub order_key: Option<String>,
    /// How later deliveries with the same order key are treated while an earlier one is failing. Default: `block`.
    pub poison: Option<Poison>,
    /// Whether the route is enabled. A disabled route matches no events. Default: true.
    pub enabled: Option<bool>,
}

impl RouteSpec {
    /// The content of the route, which keeps the name that it has unless another one is given.
    fn content(self, name: Option<String>) -> Content {
        Content {
            name: self.name.or(name),
            types: self.types.unwrap_or_default(),
            filter: self.filter,
            transform: self.transform,
            order_key: self.order_key,
            poison: self.poison.unwrap_or_default(),
            enabled: self.enabled.unwrap_or(true),
        }
    }
}

/// Changes to a route, as a JSON merge patch (RFC 7396). Omitted fields are unchanged; null resets a field to its
/// default.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RoutePatch {
    /// The new name. Null removes the name.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<schema::RouteName>)]
    pub name: Option<Option<String>>,
    /// The types of events that the route takes; the list is replaced as a whole. Null or an empty list lets the route
    /// take events of every type.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<schema::EventTypes>)]
    pub types: Option<Option<Vec<String>>>,
    /// A CEL expression. Null removes the filter, so that every event matches.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<schema::FilterExpression>)]
    pub filter: Option<Option<String>>,
    /// A CEL expression. Null removes the transform, so that the original body is sent.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<schema::TransformExpression>)]
    pub transform: Option<Option<String>>,
    /// A CEL expression. Null removes the order key, so that deliveries are not ordered.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<schema::OrderKeyExpression>)]
    pub order_key: Option<Option<String>>,
    /// Null resets it to the default, `block`.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Poison>)]
    pub poison: Option<Option<Poison>>,
    /// Null resets it to the default, true.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<bool>)]
    pub enabled: Option<Option<bool>>,
}

impl RoutePatch {
    /// The content of the route after this patch.
    fn content(self, row: &RouteRow) -> Content {
        let text = |change: Option<Option<String>>, now: &Option<String>| change.unwrap_or_else(|| now.clone());
        Content {
            name: text(self.name, &row.name),
            types: self.types.map_or_else(|| row.types.clone(), Option::unwrap_or_default),
            filter: text(self.filter, &row.filter),
            transform: text(self.transform, &row.transform),
            order_key: text(self.order_key, &row.order_key),
            poison: self.poison.map_or(row.poison, Option::unwrap_or_default),
            enabled: self.enabled.map_or(row.enabled, |enabled| enabled.unwrap_or(true)),
        }
    }
}

/// A route.
#[derive(Debug, Serialize, ToSchema)]
pub struct Route {
    /// The id of the route.
    #[schema(value_type = schema::RouteId)]
    pub id: RouteId,
    /// The name of the customer that owns the route. Only present in a list of all customers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub customer: Option<String>,
    /// The name, unique among the routes of a customer; null if the route has none.
    #[schema(required = true)]
    pub name: Option<String>,
    /// The id of the source.
    #[schema(value_type = schema::SourceId)]
    pub source_id: SourceId,
    /// The source's name.
    pub source: String,
    /// The id of the destination.
    #[schema(value_type = schema::DestinationId)]
    pub destination_id: DestinationId,
    /// The destination's name.
    pub destination: String,
    /// The types of events that the route takes; empty if it takes events of every type.
    pub types: Vec<String>,
    /// The filter; null if every event matches.
    #[schema(required = true)]
    pub filter: Option<String>,
    /// The transform; null if the original body is sent.
    #[schema(required = true)]
    pub transform: Option<String>,
    /// The order key; null if deliveries are not ordered.
    #[schema(required = true)]
    pub order_key: Option<String>,
    /// How later deliveries with the same order key are treated while an earlier one is failing.
    pub poison: Poison,
    /// Whether the route is enabled.
    pub enabled: bool,
    /// Which expressions of the route this relay cannot evaluate, and why. Deliveries that the route creates are held.
    /// Absent if all expressions can be evaluated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub unusable: Option<String>,
    /// In responses to PUT and PATCH: the settings that the call reset to their defaults or removed, such as
    /// `["filter"]`. Absent if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<String>,
    /// When the route was created.
    pub created_at: Timestamp,
    /// When the route was last changed.
    pub updated_at: Timestamp,
}

impl Configured for Route {
    fn changed_at(&self) -> Timestamp {
        self.updated_at
    }
}

/// Selects routes.
#[derive(Debug, Default)]
pub struct RouteFilter {
    /// The id or name of a source.
    pub source: Option<String>,
    /// The id or name of a destination.
    pub destination: Option<String>,
    pub name: Option<String>,
}

/// Creates a route from a source to a destination.
///
/// # Errors
/// Returns every invalid field, a conflict if a route already joins them, or an error if a query fails.
pub async fn create(control: &Control, actor: &Actor, spec: RouteSpec) -> Result<Saved<Route>, Error> {
    actor.require(Scope::Write)?;
    let mut problems = Problems::default();
    spec.name.iter().for_each(|name| name::check_route(name, &mut problems));
    let joined = joined(control, actor, &spec, &mut problems).await?;
    let content = spec.content(None);
    event_types::check(&content.types, &mut problems);
    Expressions::of(&content).check(&mut problems).await?;
    let (source, destination) = problems.finish_with(joined)?;
    let id = RouteId::from_uuid(mint::uuid());
    let customer = actor.customer()?;
    let record = |before: Option<&RouteRow>, after: Option<&RouteRow>| {
        if let Some(row) = after {
            actor.answers_with(control, Outcome::Created, &view(control, row.clone()));
        }
        record(actor, customer)(before, after)
    };
    let inserted = routes::insert(&control.pool, customer, id, source, destination, &content, record).await;
    let (row, version) = inserted.map_err(refused)?;
    let activity = control.active(version).await;
    Ok(Saved::new(view(control, row), true, activity))
}

/// A page of routes, newest first.
///
/// # Errors
/// Returns an error if the filter, the limit or the cursor is invalid, or if a query fails.
pub async fn list(
    control: &Control,
    actor: &Actor,
    filter: &RouteFilter,
    page: &PageRequest,
) -> Result<Page<Route>, Error> {
    actor.require(Scope::Read)?;
    let mut problems = Problems::default();
    let window = Window::read(page, &mut problems);
    filter.name.iter().for_each(|name| name::check_route(name, &mut problems));
    let source = sources::id_of(control, actor, "source", filter.source.as_deref(), &mut problems).await?;
    let destination =
        destinations::id_of(control, actor, "destination", filter.destination.as_deref(), &mut problems).await?;
    problems.finish()?;
    let (cursor, fetch) = (window.cursor, window.fetch());
    let name = filter.name.as_deref();
    let rows = routes::page(&control.pool, actor.listed(), source, destination, name, cursor, fetch).await?;
    let owners = Owners::of_sources(control, actor, rows.iter().map(|row| row.source_id)).await?;
    let view = |row: RouteRow| Route { customer: owners.of(row.source_id), ..view(control, row) };
    Ok(window.page(rows, |row| row.id.uuid(), view))
}

/// How many routes the actor sees.
#[derive(Debug, Default)]
pub struct RouteCounts {
    pub all: usize,
    pub of_destination: HashMap<DestinationId, usize>,
}

/// How many routes the actor sees, also those that are disabled.
///
/// # Errors
/// Returns an error if the actor may not read.
pub fn counts(control: &Control, actor: &Actor) -> Result<RouteCounts, Error> {
    actor.require(Scope::Read)?;
    let snapshot = control.configuration.current();
    let is_seen = |source: &SourceId| {
        let owner = snapshot.sources.get(source).map(|found| found.customer_id);
        actor.listed().is_none_or(|listed| owner == Some(listed))
    };
    let mut counts = RouteCounts::default();
    for (_, routes) in snapshot.routes_of_source.iter().filter(|(source, _)| is_seen(source)) {
        for route in routes {
            counts.all += 1;
            *counts.of_destination.entry(route.destination_id).or_default() += 1;
        }
    }
    Ok(counts)
}

/// The route with this id or name.
///
/// # Errors
/// Returns an error if the route does not exist, or if a query fails.
pub async fn show(control: &Control, actor: &Actor, id: &str) -> Result<Route, Error> {
    actor.require(Scope::Read)?;
    Ok(view(control, find(control, actor, id).await?))
}

/// Replaces the settings of a route. Omitted settings get their defaults; `dropped` lists the settings that this resets
/// or removes.
///
/// # Errors
/// Returns every invalid field, [`Error::Changed`] if the precondition is not met, or an error if the route does not
/// exist or a query fails.
pub async fn replace(
    control: &Control,
    actor: &Actor,
    id: &str,
    spec: RouteSpec,
    when: &Precondition,
) -> Result<Saved<Route>, Error> {
    actor.require(Scope::Write)?;
    let row = find(control, actor, id).await?;
    let mut problems = Problems::default();
    spec.name.iter().for_each(|name| name::check_route(name, &mut problems));
    check_joined(&row, &spec, &mut problems);
    let mut content = spec.content(None);
    let given = content.name.take();
    event_types::check(&content.types, &mut problems);
    Expressions::of(&content).check(&mut problems).await?;
    problems.finish()?;
    let customer = actor.customer()?;
    let plan = |row: &RouteRow| {
        let met = when.check(Some(row.updated_at)).map_err(NotChanged);
        met.map(|()| Content { name: given.or_else(|| row.name.clone()), ..content })
    };
    let changed = routes::change(&control.pool, customer, Some(row.id), None, plan, record(actor, customer)).await?;
    activated(control, changed).await
}

/// Creates the route with this name, or replaces its settings as [`replace`] does.
///
/// # Errors
/// Returns every invalid field, [`Error::Changed`] if the precondition is not met, a conflict if another route joins the
/// source and the destination, or an error if a query fails.
pub async fn put(
    control: &Control,
    actor: &Actor,
    name: &str,
    spec: RouteSpec,
    when: &Precondition,
) -> Result<Saved<Route>, Error> {
    actor.require(Scope::Write)?;
    let mut problems = Problems::default();
    name::check_path_of_route(name, spec.name.as_deref(), &mut problems);
    problems.finish()?;
    let customer = actor.customer()?;
    let now = routes::find(&control.pool, customer, None, Some(name)).await?;
    let mut problems = Problems::default();
    let joins = match &now {
        Some(row) => {
            check_joined(row, &spec, &mut problems);
            Some((row.source_id, row.destination_id))
        }
        None => joined(control, actor, &spec, &mut problems).await?,
    };
    let content = spec.content(Some(name.to_owned()));
    event_types::check(&content.types, &mut problems);
    Expressions::of(&content).check(&mut problems).await?;
    let joins = problems.finish_with(joins)?;
    let plan = |before: Option<&RouteRow>| {
        when.check(before.map(|row| row.updated_at)).map_err(NotChanged)?;
        match before {
            // The name has come to belong to a route between others since it was looked up.
            Some(row) if (row.source_id, row.destination_id) != joins => {
                Err(NotChanged(Error::Conflict(Conflict::ChangedMeanwhile)))
            }
            Some(_) | None => Ok(Planned { joins, content }),
        }
    };
    let new = RouteId::from_uuid(mint::uuid());
    let changed = routes::put(&control.pool, customer, name, new, plan, record(actor, customer)).await?;
    activated(control, Some(changed)).await
}

/// Notes a problem if settings name another source or destination than those that a route joins.
fn check_joined(row: &RouteRow, spec: &RouteSpec, problems: &mut Problems) {
    let (source, destination) = (row.source_id, row.destination_id);
    if spec.source.as_ref().is_some_and(|given| *given != row.source_name && *given != source.to_string()) {
        problems.add(
            "source",
            "must be the current source of this route, which cannot be changed; create a new route instead",
        );
    }
    if spec
        .destination
        .as_ref()
        .is_some_and(|given| *given != row.destination_name && *given != destination.to_string())
    {
        problems.add(
            "destination",
            "must be the current destination of this route, which cannot be changed; create a new route instead",
        );
    }
}

/// Changes some settings of a route. Concurrent changes to different fields are all kept.
///
/// # Errors
/// Returns every invalid field, [`Error::Changed`] if the precondition is not met, or an error if the route does not
/// exist or a query fails.
pub async fn change(
    control: &Control,
    actor: &Actor,
    id: &str,
    patch: RoutePatch,
    when: &Precondition,
) -> Result<Saved<Route>, Error> {
    actor.require(Scope::Write)?;
    let (id, name) = name::id_or_name(id);
    let mut problems = Problems::default();
    patch.name.iter().flatten().for_each(|name| name::check_route(name, &mut problems));
    // Expressions do not depend on each other, so those that do not change are not checked: a route that one of them
    // makes unusable can still be disabled.
    if let Some(Some(types)) = &patch.types {
        event_types::check(types, &mut problems);
    }
    Expressions::given(&patch).check(&mut problems).await?;
    problems.finish()?;
    let customer = actor.customer()?;
    let plan = |row: &RouteRow| match when.check(Some(row.updated_at)) {
        Ok(()) => Ok(patch.content(row)),
        Err(error) => Err(NotChanged(error)),
    };
    let changed = routes::change(&control.pool, customer, id, name, plan, record(actor, customer)).await?;
    activated(control, changed).await
}

/// Deletes a route. Its deliveries are still sent, with the transform that was current when they were created.
///
/// # Errors
/// Returns an error if the route does not exist, [`Error::Changed`] if the precondition is not met, or an error if a
/// query fails.
pub async fn delete(control: &Control, actor: &Actor, id: &str, when: &Precondition) -> Result<Activity, Error> {
    actor.require(Scope::Write)?;
    let customer = actor.customer()?;
    let (id, name) = name::id_or_name(id);
    let check = |row: &RouteRow| when.check(Some(row.updated_at));
    let deleted = routes::delete(&control.pool, customer, id, name, check, record(actor, customer)).await?;
    Ok(control.active(deleted.ok_or(Error::NotFound(Noun::Route))?).await)
}

/// The route with this id or name.
pub(super) async fn find(control: &Control, actor: &Actor, text: &str) -> Result<RouteRow, Error> {
    let (id, name) = name::id_or_name(text);
    routes::find(&control.pool, actor.customer()?, id, name).await?.ok_or(Error::NotFound(Noun::Route))
}

/// The id of a route that a filter names. An id is not looked up, because deliveries outlive their route.
pub(super) async fn id_of(
    control: &Control,
    actor: &Actor,
    field: &str,
    text: Option<&str>,
    problems: &mut Problems,
) -> Result<Option<RouteId>, Error> {
    let found = async |text: &str| Ok(find(control, actor, text).await?.id);
    name::id_in_filter(actor, field, text, problems, found).await
}

/// What the store refuses of a route.
fn refused(error: store::Error) -> Error {
    conflict_of(&[
        (Constraint::Reference, Conflict::ChangedMeanwhile),
        (Constraint::Route, Conflict::RouteExists),
        (Constraint::RouteName, Conflict::NameTaken),
    ])(error)
}

/// Why a route is not changed: what the store refuses, or what a plan does.
struct NotChanged(Error);

impl From<store::Error> for NotChanged {
    fn from(error: store::Error) -> Self {
        Self(refused(error))
    }
}

impl From<NotChanged> for Error {
    fn from(NotChanged(error): NotChanged) -> Self {
        error
    }
}

/// Waits until a change is active, and returns the route as the change left it.
async fn activated(control: &Control, changed: Option<Changed>) -> Result<Saved<Route>, Error> {
    let Changed { before, row, version } = changed.ok_or(Error::NotFound(Noun::Route))?;
    let activity = control.active(version).await;
    let dropped = before.as_ref().map(|before| dropped(&settings_of(before), &settings_of(&row), &defaults()));
    let route = Route { dropped: dropped.unwrap_or_default(), ..view(control, row) };
    Ok(Saved::new(route, before.is_none(), activity))
}

/// Makes the entry of a change from the rows before and after it.
fn record(actor: &Actor, customer: CustomerId) -> impl FnOnce(Option<&RouteRow>, Option<&RouteRow>) -> NewEntry {
    move |before, after| {
        let action = record::action(before, after, [Action::RouteCreate, Action::RouteUpdate, Action::RouteDelete]);
        let object = after.or(before).map(|row| match &row.name {
            Some(name) => Object::of(row.id, customer).named(name),
            None => Object::of(row.id, customer),
        });
        let object = object.unwrap_or_default();
        let settings = |row: &RouteRow| {
            let mut settings = settings_of(row);
            settings["name"] = row.name.clone().into();
            settings["source"] = row.source_name.clone().into();
            settings["destination"] = row.destination_name.clone().into();
            settings
        };
        record::entry(actor, action, object).with(before.map(settings), after.map(settings), [])
    }
}

/// The settings of a route that have a default.
fn settings_of(row: &RouteRow) -> Value {
    let RouteRow { types, filter, transform, order_key, poison, enabled, .. } = row;
    json!({
        "types": types, "filter": filter, "transform": transform, "order_key": order_key, "poison": poison,
        "enabled": enabled,
    })
}

fn defaults() -> Value {
    json!({
        "types": [], "filter": null, "transform": null, "order_key": null, "poison": Poison::default().name(),
        "enabled": true,
    })
}

/// The expressions that a request sets.
struct Expressions {
    filter: Option<String>,
    transform: Option<String>,
    order_key: Option<String>,
}

impl Expressions {
    fn of(content: &Content) -> Self {
        let Content { filter, transform, order_key, .. } = content;
        Self { filter: filter.clone(), transform: transform.clone(), order_key: order_key.clone() }
    }

    fn given(change: &RoutePatch) -> Self {
        let RoutePatch { filter, transform, order_key, .. } = change;
        Self {
            filter: filter.clone().flatten(),
            transform: transform.clone().flatten(),
            order_key: order_key.clone().flatten(),
        }
    }

    /// Compiles the expressions, so that only usable ones are stored. Errors are noted as problems. Compiling blocks
    /// until another thread has finished it.
    async fn check(self, problems: &mut Problems) -> Result<(), Error> {
        let compile = move || {
            let filter = self.filter.as_deref().and_then(|text| Filter::check(text).err());
            let transform = self.transform.as_deref().and_then(|text| Transform::check(text).err());
            let order_key = self.order_key.as_deref().and_then(|text| OrderKey::check(text).err());
            [("filter", filter), ("transform", transform), ("order_key", order_key)]
        };
        let done = tokio::task::spawn_blocking(compile).await;
        let errors = done.map_err(|error| Error::Internal(error.to_string()))?;
        let problem = |field, error: ExpressionError| FieldError::with_code(field, error.code(), error.to_string());
        let errors = errors.into_iter().filter_map(|(field, error)| Some(problem(field, error?)));
        errors.for_each(|error| problems.push(error));
        Ok(())
    }
}

/// The source and the destination that a route joins. If one does not exist, a problem is noted.
async fn joined(
    control: &Control,
    actor: &Actor,
    spec: &RouteSpec,
    problems: &mut Problems,
) -> Result<Option<(SourceId, DestinationId)>, Error> {
    let mut source = None;
    match spec.source.as_deref() {
        None => problems.add("source", "is required; set it to an id or a name"),
        Some(text) => source = problems.named("source", text, sources::find(control, actor, text).await)?,
    }
    let mut destination = None;
    match spec.destination.as_deref() {
        None => problems.add("destination", "is required; set it to an id or a name"),
        Some(text) => {
            destination = problems.named("destination", text, destinations::find(control, actor, text).await)?
        }
    }
    let ids = source.zip(destination);
    Ok(ids.map(|(source, destination)| (source.id, destination.id)))
}

fn view(control: &Control, row: RouteRow) -> Route {
    let snapshot = control.configuration.current();
    Route {
        id: row.id,
        customer: None,
        name: row.name,
        source_id: row.source_id,
        source: row.source_name,
        destination_id: row.destination_id,
        destination: row.destination_name,
        types: row.types,
        filter: row.filter,
        transform: row.transform,
        order_key: row.order_key,
        poison: row.poison,
        enabled: row.enabled,
        unusable: snapshot.routes.get(&row.id).and_then(|route| route.problem()),
        dropped: Vec::new(),
        created_at: Timestamp(row.created_at),
        updated_at: Timestamp(row.updated_at),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fields::wrong_fields;
    use super::*;

    #[test]
    fn a_patch_distinguishes_null_from_omitted() {
        let change: RoutePatch = serde_json::from_str(r#"{"filter": null, "enabled": false}"#).expect("a change");
        assert_eq!((change.filter, change.transform, change.enabled), (Some(None), None, Some(Some(false))));
    }

    #[tokio::test]
    async fn all_expressions_are_compiled_and_all_errors_reported() {
        let mut problems = Problems::default();
        let settings = r#"{"filter": "event.", "transform": "nothing", "order_key": "body.(", "poison": "skip"}"#;
        let content = serde_json::from_str::<RouteSpec>(settings).expect("settings").content(None);
        assert!(Expressions::of(&content).check(&mut problems).await.is_ok());
        let errors = wrong_fields(problems.finish());
        assert_eq!(
            errors.iter().map(|error| error.field.as_str()).collect::<Vec<_>>(),
            ["filter", "transform", "order_key"]
        );
        assert_eq!(errors[0].code, Some("expression_syntax"));
    }
}
