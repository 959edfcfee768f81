//! Many customers with sources, destinations and routes. Created through the API, each object would be a change that
//! every relay reads.

use serde_json::json;
use shared::id::{CustomerId, DestinationId, RouteId, SourceId};
use shared::seal::{self, SealingKey};
use sqlx::types::Uuid;

use super::crowd::sealed_signing_secrets;
use super::{RelayOnly, ready};
use crate::api::Source;
use crate::error::{Doing as _, Result};
use crate::provider::now_s;

/// How many objects there are, and whose they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub customers: usize,
    /// The sources of each customer.
    pub sources: usize,
    /// The destinations of each source, each with a route from it.
    pub destinations: usize,
}

/// A source of [`RelayOnly::customers`], and who owns it.
#[derive(Debug, Clone)]
pub struct Owned {
    pub source: Source,
    /// The name of the customer.
    pub customer: String,
}

/// The columns of the new rows.
#[derive(Default)]
struct Columns {
    customers: Vec<Uuid>,
    names: Vec<String>,
    sources: Vec<Uuid>,
    owners: Vec<Uuid>,
    source_names: Vec<String>,
    secrets: Vec<String>,
    destinations: Vec<Uuid>,
    sources_of_destinations: Vec<Uuid>,
    destination_names: Vec<String>,
    signing_secrets: Vec<String>,
    routes: Vec<Uuid>,
}

impl RelayOnly {
    /// Creates customers with sources, destinations and routes, in one statement. All destinations have one URL. The
    /// name of a customer is `customer-<number>`, and the numbers begin with 0. Returns the sources.
    ///
    /// # Panics
    /// Panics if the statement fails.
    pub async fn customers(&self, shape: Shape, url: &str) -> Vec<Owned> {
        ready(self.try_customers(shape, url).await)
    }

    async fn try_customers(&self, shape: Shape, url: &str) -> Result<Vec<Owned>> {
        let key: SealingKey = SealingKey::parse(self.relay.settings().value("TIDEGATE_MASTER_KEY"))
            .doing(|| "the master key".to_owned())?;
        let (columns, owned) = columns(shape, &key);
        let mut database = self.database.connect().await?;
        let made = sqlx::query(
            "with owners as (
                 insert into customers (id, name) select * from unnest($1::uuid[], $2::text[])
             ), from_providers as (
                 insert into sources (id, customer_id, name, provider, config, secrets_sealed)
                 select id, owner, name, 'standard-webhooks', '{}', secrets
                 from unnest($3::uuid[], $4::uuid[], $5::text[], $6::text[]) as new (id, owner, name, secrets)
             ), to_endpoints as (
                 insert into destinations (id, customer_id, name, url, append_query, shard, signing_secrets_sealed,
                                           max_concurrency, timeout_ms, retry)
                 select id, owner, name, $12, false, number % 256, secrets, 64, 15000, '{\"schedule_s\": [0, 5, 60]}'
                 from unnest($7::uuid[], $8::uuid[], $9::text[], $10::text[])
                      with ordinality as new (id, source, name, secrets, number)
                 join unnest($3::uuid[], $4::uuid[]) as owned (of_source, owner) on of_source = source
             ), joined as (
                 insert into routes (id, customer_id, source_id, destination_id)
                 select id, owner, source, destination
                 from unnest($11::uuid[], $8::uuid[], $7::uuid[]) as new (id, source, destination)
                 join unnest($3::uuid[], $4::uuid[]) as owned (of_source, owner) on of_source = source
             )
             update configuration set revision = revision + 1, identity = gen_random_uuid()",
        )
        .bind(&columns.customers)
        .bind(&columns.names)
        .bind(&columns.sources)
        .bind(&columns.owners)
        .bind(&columns.source_names)
        .bind(&columns.secrets)
        .bind(&columns.destinations)
        .bind(&columns.sources_of_destinations)
        .bind(&columns.destination_names)
        .bind(&columns.signing_secrets)
        .bind(&columns.routes)
        .bind(url)
        .execute(&mut database)
        .await;
        made.doing(|| "cannot make the customers".to_owned())?;
        Ok(owned)
    }
}

fn columns(shape: Shape, key: &SealingKey) -> (Columns, Vec<Owned>) {
    let (mut columns, mut owned) = (Columns::default(), Vec::new());
    let now_ms = now_s() * 1_000;
    for customer in 0..shape.customers {
        let (owner, name) = (CustomerId::mint(now_ms, rand::random()), format!("customer-{customer}"));
        columns.customers.push(owner.uuid());
        columns.names.push(name.clone());
        for number in 0..shape.sources {
            let source = SourceId::mint(now_ms, rand::random());
            columns.sources.push(source.uuid());
            columns.owners.push(owner.uuid());
            columns.source_names.push(format!("source-{number}"));
            columns.secrets.push(sealed_secrets(key, source));
            owned.push(Owned {
                source: Source { id: source.to_string(), ingest_url: String::new(), body: json!({}) },
                customer: name.clone(),
            });
            for destination in 0..shape.destinations {
                let id = DestinationId::mint(now_ms, rand::random());
                columns.destinations.push(id.uuid());
                columns.sources_of_destinations.push(source.uuid());
                columns.destination_names.push(format!("destination-{number}-{destination}"));
                columns.signing_secrets.push(sealed_signing_secrets(key, id));
                columns.routes.push(RouteId::mint(now_ms, rand::random()).uuid());
            }
        }
    }
    (columns, owned)
}

/// The secrets of a source, sealed as the relay seals them.
fn sealed_secrets(key: &SealingKey, id: SourceId) -> String {
    let secrets = json!([format!("whsec_{}", crate::random::key())]);
    seal::seal(key, &format!("sources/{id}/secrets"), rand::random(), secrets.to_string().as_bytes())
}
