//! The name under which the edge finds a source. It is the last part of a URL of the source, and unique at the edge.

use store::sources::SourceRow;
use store::{DEFAULT_CUSTOMER, Pool, customers};

/// The name of a source at the edge. Names of sources are unique for their customer only, so the name of the customer
/// goes first: `acme/orders`. The default customer's name is left out, as it was when there was no other customer.
/// `None` if the customer was deleted, and the source with it: without the first part it would have a name of the
/// default customer.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn of(pool: &Pool, row: &SourceRow) -> store::Result<Option<String>> {
    if row.customer_id == DEFAULT_CUSTOMER {
        return Ok(Some(row.name.clone()));
    }
    let customer = customers::find(pool, Some(row.customer_id), None).await?;
    Ok(customer.map(|customer| format!("{}/{}", customer.name, row.name)))
}

/// The row as the edge knows it: with the name that it has there. `None` if the customer was deleted.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn row(pool: &Pool, row: SourceRow) -> store::Result<Option<SourceRow>> {
    Ok(of(pool, &row).await?.map(|name| SourceRow { name, ..row }))
}
