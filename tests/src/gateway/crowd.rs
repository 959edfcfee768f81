//! Thousands of destinations: through the API each would be a change that every relay reads.

use shared::id::{DestinationId, RouteId, SourceId};
use shared::seal::{self, SealingKey};
use sqlx::types::Uuid;

use super::{RelayOnly, ready};
use crate::api::Source;
use crate::error::{Doing as _, Result};
use crate::provider::now_s;

impl RelayOnly {
    /// Makes so many destinations at one URL, each with a route from `source`, by one statement. Gives their ids.
    ///
    /// # Panics
    /// Panics if the database refuses them.
    pub async fn crowd(&self, source: &Source, count: usize, url: &str) -> Vec<DestinationId> {
        ready(self.try_crowd(source, count, url).await)
    }

    async fn try_crowd(&self, source: &Source, count: usize, url: &str) -> Result<Vec<DestinationId>> {
        let key: SealingKey = SealingKey::parse(self.relay.settings().value("TIDEGATE_MASTER_KEY"))
            .doing(|| "the master key".to_owned())?;
        let source: SourceId = source.id.parse().doing(|| "the id of the source".to_owned())?;
        let ids: Vec<DestinationId> =
            (0..count).map(|_| DestinationId::mint(now_s() * 1_000, rand::random())).collect();
        let sealed: Vec<String> = ids.iter().map(|id| sealed_signing_keys(&key, *id)).collect();
        let uuids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
        let routes: Vec<Uuid> = (0..count).map(|_| RouteId::mint(now_s() * 1_000, rand::random()).uuid()).collect();
        let mut database = self.database.connect().await?;
        let made = sqlx::query(
            "with new as (
                 select * from unnest($1::uuid[], $2::text[], $3::uuid[]) with ordinality as new (id, sealed, route_id, number)
             ), made as (
                 insert into destinations (id, customer_id, name, url, shard, signing_keys_sealed, max_concurrency, timeout_ms,
                                           retry)
                 select new.id, sources.customer_id, 'crowd-' || number, $5, number % 256, sealed, 10, 15000,
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

/// As the relay seals them.
fn sealed_signing_keys(key: &SealingKey, id: DestinationId) -> String {
    let keys = serde_json::json!([{ "key": format!("whsec_{}", crate::random::key()) }]);
    let associated_data = format!("destinations/{id}/signing_keys");
    seal::seal(key, &associated_data, rand::random(), keys.to_string().as_bytes())
}
