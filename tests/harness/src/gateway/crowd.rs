//! Thousands of destinations. Created through the API, each would be a change that every relay reads.

use shared::id::{DestinationId, RouteId, SourceId};
use shared::seal::{self, SealingKey};
use sqlx::AssertSqlSafe;
use sqlx::types::Uuid;

use super::{RelayOnly, ready};
use crate::api::Source;
use crate::error::{Doing as _, Result};
use crate::provider::now_s;

impl RelayOnly {
    /// Creates `count` destinations with one URL, each with a route from `source`, in one statement. Returns their ids.
    ///
    /// # Panics
    /// Panics if the statement fails.
    pub async fn crowd(&self, source: &Source, count: usize, url: &str) -> Vec<DestinationId> {
        ready(self.try_crowd(source, count, url).await)
    }

    async fn try_crowd(&self, source: &Source, count: usize, url: &str) -> Result<Vec<DestinationId>> {
        let key: SealingKey = SealingKey::parse(self.relay.settings().value("TIDEGATE_MASTER_KEY"))
            .doing(|| "the master key".to_owned())?;
        let source: SourceId = source.id.parse().doing(|| "the id of the source".to_owned())?;
        let ids: Vec<DestinationId> =
            (0..count).map(|_| DestinationId::mint(now_s() * 1_000, rand::random())).collect();
        let sealed: Vec<String> = ids.iter().map(|id| sealed_signing_secrets(&key, *id)).collect();
        let uuids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
        let routes: Vec<Uuid> = (0..count).map(|_| RouteId::mint(now_s() * 1_000, rand::random()).uuid()).collect();
        let mut database = self.database.connect().await?;
        let made = sqlx::query(
            "with new as (
                 select * from unnest($1::uuid[], $2::text[], $3::uuid[]) with ordinality as new (id, sealed, route_id, number)
             ), made as (
                 insert into destinations (id, customer_id, name, url, append_query, shard, signing_secrets_sealed,
                                           max_concurrency, timeout_ms, retry)
                 select new.id, sources.customer_id, 'crowd-' || number, $5, false, number % 256, sealed, 10, 15000,
                        '{\"schedule_s\": [0, 5, 60]}'
                 from new, sources where sources.id = $4
             ), joined as (
                 insert into routes (id, customer_id, source_id, destination_id)
                 select route_id, sources.customer_id, sources.id, new.id from new, sources where sources.id = $4
             )
             update configuration set revision = revision + 1, identity = gen_random_uuid()",
        )
        .bind(&uuids)
        .bind(&sealed)
        .bind(&routes)
        .bind(source.uuid())
        .bind(url)
        .execute(&mut database)
        .await;
        made.doing(|| "cannot make the destinations".to_owned())?;
        Ok(ids)
    }
}

/// A new id in the edge's form: the present time and random digits.
const NEW_ID: &str = "(lpad(to_hex((extract(epoch from now()) * 1000)::bigint), 12, '0') || '7'
                       || substr(random, 1, 3) || '8' || substr(random, 4, 15))::uuid";

impl RelayOnly {
    /// Creates deliveries that have been due for an hour: `each` for every destination of [`RelayOnly::crowd`], each
    /// with an event of its own. The events have the type and headers of the first event of `source`, and a body of two
    /// bytes.
    ///
    /// # Panics
    /// Panics if the statement fails.
    pub async fn backlog(&self, source: &Source, each: usize) {
        ready(self.try_backlog(source, each).await);
    }

    async fn try_backlog(&self, source: &Source, each: usize) -> Result<()> {
        let source: SourceId = source.id.parse().doing(|| "the id of the source".to_owned())?;
        let mut database = self.database.connect().await?;
        let statement = format!(
            "with first as materialized (
                 select * from events where source_id = $1 order by id limit 1
             ), new as materialized (
                 select destinations.id as destination_id, routes.id as route_id, {NEW_ID} as id
                 from destinations join routes on routes.destination_id = destinations.id,
                      generate_series(1, $2) number,
                      lateral (select md5(destinations.id::text || number) as random) made
                 where destinations.name like 'crowd-%'
             ), stored as (
                 insert into events (id, customer_id, source_id, received_at, type, method, query, headers, body_size,
                                     verification)
                 select new.id, customer_id, source_id, now(), type, method, query, headers, 2, verification from first, new
             ), bodies as (
                 insert into event_bodies (event_id, body) select id, '{{}}' from new
             )
             insert into pending_deliveries (id, customer_id, destination_id, event_id, source_id, route_id, due_at)
             select new.id, customer_id, destination_id, new.id, source_id, route_id, now() - interval '1 hour'
             from first, new"
        );
        let doing = || "cannot make deliveries".to_owned();
        let each = i32::try_from(each).doing(doing)?;
        // These rows need not survive a crash.
        sqlx::raw_sql("set synchronous_commit = off").execute(&mut database).await.doing(doing)?;
        let made = sqlx::query(AssertSqlSafe(statement)).bind(source.uuid()).bind(each).execute(&mut database).await;
        made.doing(doing)?;
        sqlx::raw_sql("analyze pending_deliveries; analyze events; analyze event_bodies")
            .execute(&mut database)
            .await
            .doing(doing)?;
        Ok(())
    }
}

/// Signing secrets, sealed as the relay seals them.
pub(super) fn sealed_signing_secrets(key: &SealingKey, id: DestinationId) -> String {
    let keys = serde_json::json!([{ "key": format!("whsec_{}", crate::random::key()) }]);
    let associated_data = format!("destinations/{id}/signing_secrets");
    seal::seal(key, &associated_data, rand::random(), keys.to_string().as_bytes())
}
