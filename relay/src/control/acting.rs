//! For whom an actor acts: an actor that is not bound to a customer may act for any.

use shared::id::CustomerId;

use super::actor::{Actor, Owner};
use super::error::{Error, Forbidden};
use super::field_error::FieldError;
use super::{Control, customers, name};

/// What a caller names to ask for the rows of all customers.
pub const ALL: &str = "*";

/// The actor, acting for the customer that the caller names: by its id, by its name, or by [`ALL`] for all customers.
///
/// The default customer is not looked up, so that its callers do not depend on the database here.
///
/// # Errors
/// Returns [`Error::Forbidden`] if the actor is bound to another customer, an invalid field if there is no such
/// customer, or an error if the query fails.
pub async fn act_for(control: &Control, actor: Actor, named: &str) -> Result<Actor, Error> {
    if let Some(Owner { id, name }) = actor.bound_to() {
        return if named == name || named.parse() == Ok(*id) {
            Ok(actor)
        } else {
            Err(Error::Forbidden(Forbidden::OtherCustomer))
        };
    }
    if named == ALL {
        return Ok(actor.acting_for_all());
    }
    let (id, name) = name::id_or_name::<CustomerId>(named);
    if name == Some(customers::DEFAULT_NAME) || id == Some(store::DEFAULT_CUSTOMER) {
        return Ok(actor.acting_for(store::DEFAULT_CUSTOMER));
    }
    match store::customers::find(&control.pool, id, name).await? {
        Some(row) => Ok(actor.acting_for(row.id)),
        None => {
            let problem = format!("there is no customer \"{named}\"; use the name or id of an existing customer");
            Err(Error::Invalid(vec![FieldError::new("customer", problem)]))
        }
    }
}
