//! Routes: which events of a source go to a destination, and in which form.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::id::{CustomerId, DestinationId, RouteId, SourceId};
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::input::{Body, Params, Segment};
use super::page::{Page, Window};
use super::patch::{dropped, given};
use super::problem::{ApiError, Conflict, FieldError, Problems, Refusals, conflict_of};
use super::time::Timestamp;
use super::{destinations, in_force, sources};
use crate::configuration::Poison;
use crate::expression::{ExpressionError, Filter, OrderKey, Transform};
use crate::store::routes::{self, Changed, Content, RouteRow};
use crate::{App, mint};

/// A route to be made, or to be put in the place of one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteSettings {
    /// Id or name. Needed by POST; what a route joins does not change.
    source: Option<String>,
    /// Id or name. Needed by POST; what a route joins does not change.
    destination: Option<String>,
    /// CEL over `event`, `headers` and `body` that gives true or false. Left out: every event matches.
    #[schema(example = "event.type == 'invoice.paid' && body.data.object.amount_paid > 0")]
    filter: Option<String>,
    /// CEL over the same that gives the new body. Left out: the raw bytes are sent. If it is changed, deliveries that are
    /// pending are still sent with the one that they were routed with. Those that are held by their transform are released
    /// with the new one; if there is none any more they stay held. What is released or retried by hand, or replayed, is sent
    /// by the route as it is now.
    transform: Option<String>,
    /// CEL over the same: deliveries of this route for which it gives the same value go one after the other, in the order in
    /// which they were stored; null and the empty text are no order. Left out: no delivery waits for another. Replays have no
    /// order.
    #[schema(example = "body.data.object.customer")]
    order_key: Option<String>,
    /// What a delivery that fails means for the later ones of its key; "block" where it is left out.
    poison: Option<Poison>,
    /// True where it is left out.
    enabled: Option<bool>,
}

impl RouteSettings {
    fn content(self) -> Content {
        Content {
            filter: self.filter,
            transform: self.transform,
            order_key: self.order_key,
            poison: self.poison.unwrap_or_default(),
            enabled: self.enabled.unwrap_or(true),
        }
    }
}

/// What changes of a route, as a JSON merge patch (RFC 7396): what is left out stays, null gives the default.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteChange {
    /// Null: every event matches.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    filter: Option<Option<String>>,
    /// Null: the raw bytes are sent.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    transform: Option<Option<String>>,
    /// Null: no delivery waits for another.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    order_key: Option<Option<String>>,
    /// Null: "block".
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Poison>)]
    poison: Option<Option<Poison>>,
    /// Null: true.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<bool>)]
    enabled: Option<Option<bool>>,
}

impl RouteChange {
    /// What a route consists of once this has changed it.
    fn content(self, row: &RouteRow) -> Content {
        let text = |change: Option<Option<String>>, now: &Option<String>| change.unwrap_or_else(|| now.clone());
        Content {
            filter: text(self.filter, &row.filter),
            transform: text(self.transform, &row.transform),
            order_key: text(self.order_key, &row.order_key),
            poison: self.poison.map_or_else(|| Poison::from_name(&row.poison), Option::unwrap_or_default),
            enabled: self.enabled.map_or(row.enabled, |enabled| enabled.unwrap_or(true)),
        }
    }
}

/// A route.
#[derive(Debug, Serialize, ToSchema)]
pub struct Route {
    #[schema(value_type = String, example = "rte_0197f3c8d2a17c3e9b5d0a4c6f7e8b91")]
    pub id: RouteId,
    #[schema(value_type = String)]
    pub source_id: SourceId,
    /// The source's name.
    pub source: String,
    #[schema(value_type = String)]
    pub destination_id: DestinationId,
    /// The destination's name.
    pub destination: String,
    pub filter: Option<String>,
    pub transform: Option<String>,
    pub order_key: Option<String>,
    pub poison: Poison,
    pub enabled: bool,
    /// Which of its expressions this relay cannot evaluate, and why; the deliveries that it makes are held. Left out if all
    /// can be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unusable: Option<String>,
    /// In the answer to PUT and PATCH: what this call has reset to its default or removed, such as `["filter"]`. Left out if
    /// there is nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Which routes.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RouteQuery {
    /// Id or name.
    source: Option<String>,
    /// Id or name.
    destination: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// Joins a source to a destination.
#[utoipa::path(post, path = "/v1/routes", tag = "routes", request_body = RouteSettings,
    responses((status = 201, body = Route), Refusals))]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(settings): Body<RouteSettings>,
) -> Result<Response, ApiError> {
    let mut problems = Problems::default();
    let joined = joined(&app, caller.customer, &settings, &mut problems).await?;
    let content = settings.content();
    Expressions::of(&content).check(&mut problems).await?;
    let (source, destination) = problems.finish_with(joined)?;
    let id = RouteId::from_uuid(mint::uuid());
    let inserted = routes::insert(&app.pool, caller.customer, id, source, destination, &content).await;
    let (row, version) = inserted.map_err(|error| {
        if error.as_database_error().is_some_and(|error| error.is_foreign_key_violation()) {
            return ApiError::Conflict(Conflict::ChangedMeanwhile);
        }
        conflict_of("one_route_joins_a_source_and_a_destination", Conflict::RouteExists)(error)
    })?;
    in_force(&app, version).await?;
    Ok((StatusCode::CREATED, Json(view(&app, row))).into_response())
}

/// A page of routes, newest first.
#[utoipa::path(get, path = "/v1/routes", tag = "routes", params(RouteQuery),
    responses((status = 200, body = Page<Route>), Refusals))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Params(query): Params<RouteQuery>,
) -> Result<Json<Page<Route>>, ApiError> {
    let mut problems = Problems::default();
    let window = Window::read(query.limit, query.cursor.as_deref(), &mut problems);
    let source = sources::id_of(&app, caller.customer, "source", query.source.as_deref(), &mut problems).await?;
    let destination =
        destinations::id_of(&app, caller.customer, "destination", query.destination.as_deref(), &mut problems).await?;
    problems.finish()?;
    let rows = routes::page(&app.pool, caller.customer, source, destination, window.cursor, window.fetch()).await?;
    Ok(Json(window.page(rows, |row| row.id, |row| view(&app, row))))
}

/// One route.
#[utoipa::path(get, path = "/v1/routes/{id}", tag = "routes", params(("id" = String, Path)),
    responses((status = 200, body = Route), Refusals))]
pub(super) async fn show(
    State(app): State<App>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<Route>, ApiError> {
    Ok(Json(view(&app, find(&app, caller.customer, &id).await?)))
}

/// Puts other expressions in place; what is left out is taken away, and the answer names what that was.
#[utoipa::path(put, path = "/v1/routes/{id}", tag = "routes", params(("id" = String, Path)), request_body = RouteSettings,
    responses((status = 200, body = Route), Refusals))]
pub(super) async fn replace(
    State(app): State<App>,
    caller: Caller,
    Segment(id): Segment,
    Body(settings): Body<RouteSettings>,
) -> Result<Json<Route>, ApiError> {
    let row = find(&app, caller.customer, &id).await?;
    let mut problems = Problems::default();
    let (source, destination) = (SourceId::from_uuid(row.source_id), DestinationId::from_uuid(row.destination_id));
    if settings.source.as_ref().is_some_and(|given| *given != row.source_name && *given != source.to_string()) {
        problems.add("source", "is not the source of this route; make another route instead");
    }
    if settings
        .destination
        .as_ref()
        .is_some_and(|given| *given != row.destination_name && *given != destination.to_string())
    {
        problems.add("destination", "is not the destination of this route; make another route instead");
    }
    let content = settings.content();
    Expressions::of(&content).check(&mut problems).await?;
    problems.finish()?;
    let changed = routes::change(&app.pool, caller.customer, RouteId::from_uuid(row.id), |_| content).await?;
    answer(&app, changed).await
}

/// Changes a part of a route. Changes of different fields at the same time are all kept.
#[utoipa::path(patch, path = "/v1/routes/{id}", tag = "routes", params(("id" = String, Path)), request_body = RouteChange,
    responses((status = 200, body = Route), Refusals))]
pub(super) async fn change(
    State(app): State<App>,
    caller: Caller,
    Segment(id): Segment,
    Body(change): Body<RouteChange>,
) -> Result<Json<Route>, ApiError> {
    let id = id.parse().map_err(|_| ApiError::NotFound("route"))?;
    let mut problems = Problems::default();
    // Each expression stands for itself, so those that stay are not looked at: a route that one of them makes unusable
    // can be switched off.
    Expressions::given(&change).check(&mut problems).await?;
    problems.finish()?;
    let changed = routes::change(&app.pool, caller.customer, id, |row| change.content(row)).await?;
    answer(&app, changed).await
}

/// Takes a route away. What it has made already is still delivered, with the transform that it was routed with. Retries by hand
/// and replays of it use the last transform that the route had.
#[utoipa::path(delete, path = "/v1/routes/{id}", tag = "routes", params(("id" = String, Path)),
    responses((status = 204), Refusals))]
pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<StatusCode, ApiError> {
    let id = id.parse().map_err(|_| ApiError::NotFound("route"))?;
    let version = routes::delete(&app.pool, caller.customer, id).await?.ok_or(ApiError::NotFound("route"))?;
    in_force(&app, version).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn find(app: &App, customer: CustomerId, id: &str) -> Result<RouteRow, ApiError> {
    let id: RouteId = id.parse().map_err(|_| ApiError::NotFound("route"))?;
    routes::find(&app.pool, customer, id).await?.ok_or(ApiError::NotFound("route"))
}

/// Waits until a change is in force, and answers with the route as it left it.
async fn answer(app: &App, changed: Option<Changed>) -> Result<Json<Route>, ApiError> {
    let Changed { before, row, version } = changed.ok_or(ApiError::NotFound("route"))?;
    in_force(app, version).await?;
    let dropped = dropped(&settings_of(&before), &settings_of(&row), &defaults());
    Ok(Json(Route { dropped, ..view(app, row) }))
}

/// The settings of a route that have a default.
fn settings_of(row: &RouteRow) -> Value {
    let RouteRow { filter, transform, order_key, poison, enabled, .. } = row;
    json!({ "filter": filter, "transform": transform, "order_key": order_key, "poison": poison, "enabled": enabled })
}

fn defaults() -> Value {
    json!({ "filter": null, "transform": null, "order_key": null, "poison": Poison::default().name(), "enabled": true })
}

/// The expressions that a request gives a route.
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

    fn given(change: &RouteChange) -> Self {
        let RouteChange { filter, transform, order_key, .. } = change;
        Self {
            filter: filter.clone().flatten(),
            transform: transform.clone().flatten(),
            order_key: order_key.clone().flatten(),
        }
    }

    /// Compiles them, so that what is stored can be used, and notes what is wrong. Compiling waits for a thread of its own.
    async fn check(self, problems: &mut Problems) -> Result<(), ApiError> {
        let compile = move || {
            let filter = self.filter.as_deref().and_then(|text| Filter::check(text).err());
            let transform = self.transform.as_deref().and_then(|text| Transform::check(text).err());
            let order_key = self.order_key.as_deref().and_then(|text| OrderKey::check(text).err());
            [("filter", filter), ("transform", transform), ("order_key", order_key)]
        };
        let done = tokio::task::spawn_blocking(compile).await;
        let errors = done.map_err(|error| ApiError::Internal(error.to_string()))?;
        let problem = |field, error: ExpressionError| FieldError::with_code(field, error.code(), error.to_string());
        let errors = errors.into_iter().filter_map(|(field, error)| Some(problem(field, error?)));
        errors.for_each(|error| problems.push(error));
        Ok(())
    }
}

/// What is not there is noted.
async fn joined(
    app: &App,
    customer: CustomerId,
    settings: &RouteSettings,
    problems: &mut Problems,
) -> Result<Option<(SourceId, DestinationId)>, ApiError> {
    let mut source = None;
    match settings.source.as_deref() {
        None => problems.add("source", "is missing; give its id or name"),
        Some(text) => source = problems.named("source", text, sources::find(app, customer, text).await)?,
    }
    let mut destination = None;
    match settings.destination.as_deref() {
        None => problems.add("destination", "is missing; give its id or name"),
        Some(text) => {
            destination = problems.named("destination", text, destinations::find(app, customer, text).await)?
        }
    }
    let ids = source.zip(destination);
    Ok(ids.map(|(source, destination)| (SourceId::from_uuid(source.id), DestinationId::from_uuid(destination.id))))
}

fn view(app: &App, row: RouteRow) -> Route {
    let snapshot = app.configuration.current();
    Route {
        id: RouteId::from_uuid(row.id),
        source_id: SourceId::from_uuid(row.source_id),
        source: row.source_name,
        destination_id: DestinationId::from_uuid(row.destination_id),
        destination: row.destination_name,
        filter: row.filter,
        transform: row.transform,
        order_key: row.order_key,
        poison: Poison::from_name(&row.poison),
        enabled: row.enabled,
        unusable: snapshot.routes.get(&RouteId::from_uuid(row.id)).and_then(|route| route.problem()),
        dropped: Vec::new(),
        created_at: Timestamp(row.created_at),
        updated_at: Timestamp(row.updated_at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_tells_null_from_left_out() {
        let change: RouteChange = serde_json::from_str(r#"{"filter": null, "enabled": false}"#).expect("a change");
        assert_eq!((change.filter, change.transform, change.enabled), (Some(None), None, Some(Some(false))));
    }

    #[tokio::test]
    async fn all_expressions_are_compiled_and_all_errors_reported() {
        let mut problems = Problems::default();
        let settings = r#"{"filter": "event.", "transform": "nothing", "order_key": "body.(", "poison": "skip"}"#;
        let content = serde_json::from_str::<RouteSettings>(settings).expect("settings").content();
        assert!(Expressions::of(&content).check(&mut problems).await.is_ok());
        let problem = problems.finish().map_err(|error| error.problem()).expect_err("three problems");
        assert_eq!(
            problem.errors.iter().map(|error| error.field.as_str()).collect::<Vec<_>>(),
            ["filter", "transform", "order_key"]
        );
        assert_eq!(problem.code, "expression_syntax");
    }
}
