//! Customers: the owners of sources, destinations, routes, and of what belongs to them.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use super::conditions::{self, When};
use super::input::{Body, Params, Segment};
use super::problem::{ApiError, Conflicts};
use super::query::PageQuery;
use crate::control::customers::{self, Customer, CustomerPatch, CustomerSpec};
use crate::control::operations::Operation;
use crate::control::page::Page;
use crate::control::{Actor, Control, schema};

/// Creates a customer.
///
/// `name` is required.
#[utoipa::path(post, path = "/v1/customers", tag = "customers", security(("token" = ["admin"])),
    request_body = CustomerSpec, responses((status = 201, body = Customer), Conflicts))]
pub(super) async fn create(
    State(control): State<Control>,
    actor: Actor,
    Body(spec): Body<CustomerSpec>,
) -> Result<Response, ApiError> {
    conditions::saved(customers::create(&control, &actor, spec).await)
}

/// Lists customers, newest first.
#[utoipa::path(get, path = "/v1/customers", tag = "customers", security(("token" = ["admin"])), params(PageQuery),
    responses((status = 200, body = Page<Customer>)))]
pub(super) async fn list(
    State(control): State<Control>,
    actor: Actor,
    Params(query): Params<PageQuery>,
) -> Result<Json<Page<Customer>>, ApiError> {
    Ok(Json(customers::list(&control, &actor, &query.into()).await?))
}

/// Returns a customer.
#[utoipa::path(get, path = "/v1/customers/{id}", tag = "customers", security(("token" = ["admin"])),
    params(("id" = schema::CustomerReference, Path)), responses((status = 200, body = Customer)))]
pub(super) async fn show(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
) -> Result<Response, ApiError> {
    conditions::shown(customers::show(&control, &actor, &id).await)
}

/// Creates the customer with this name, or replaces its limits.
///
/// Omitted limits are removed. If the body has a `name`, it must equal the name in the path.
#[utoipa::path(put, path = "/v1/customers/by-name/{name}", tag = "customers", security(("token" = ["admin"])),
    params(("name" = schema::CustomerName, Path)), request_body = CustomerSpec,
    responses(
        (status = 200, body = Customer, description = "Updated."),
        (status = 201, body = Customer, description = "Created."),
        Conflicts,
    ))]
pub(super) async fn put(
    State(control): State<Control>,
    actor: Actor,
    Segment(name): Segment,
    When(when): When,
    Body(spec): Body<CustomerSpec>,
) -> Result<Response, ApiError> {
    conditions::saved(customers::put(&control, &actor, &name, spec, &when).await)
}

/// Updates a customer.
///
/// A new name also changes the ingest URLs that contain the name of the customer; those with the id of a source stay.
/// The default customer cannot be renamed.
#[utoipa::path(patch, path = "/v1/customers/{id}", tag = "customers", security(("token" = ["admin"])),
    params(("id" = schema::CustomerReference, Path)), request_body = CustomerPatch,
    responses((status = 200, body = Customer), Conflicts))]
pub(super) async fn change(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
    When(when): When,
    Body(patch): Body<CustomerPatch>,
) -> Result<Response, ApiError> {
    conditions::saved(customers::change(&control, &actor, &id, patch, &when).await)
}

/// Deletes a customer and everything that it owns.
///
/// At once, its tokens are revoked, its sources, destinations and routes are gone, its name is free, and no call finds
/// it any more. An operation then deletes its sources at the edge, cancels its pending deliveries, and deletes its
/// events, deliveries and everything else in the background; it ends at the earliest three minutes after the call.
/// Requests to its sources are answered with 404 as soon as the edge knows. An event that is stored later, because the
/// edge had acknowledged it before, is kept as an unreadable message. The default customer cannot be deleted.
#[utoipa::path(delete, path = "/v1/customers/{id}", tag = "customers", security(("token" = ["admin"])),
    params(("id" = schema::CustomerReference, Path)),
    responses(
        (status = 202, body = Operation, description = "The customer is deleted. The operation deletes what it owned."),
        Conflicts,
    ))]
pub(super) async fn delete(
    State(control): State<Control>,
    actor: Actor,
    Segment(id): Segment,
    When(when): When,
) -> Result<(StatusCode, Json<Operation>), ApiError> {
    Ok((StatusCode::ACCEPTED, Json(customers::delete(&control, &actor, &id, &when).await?)))
}
