//! The outcomes of the deliveries that replays have made, counted in the rows of the replays.

use std::collections::BTreeMap;

use model::delivery::DeliveryState;
use shared::id::ReplayId;
use uuid::Uuid;

use crate::{Connection, Result};

/// The settled deliveries of one replay, by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub succeeded: i64,
    pub dead: i64,
    pub cancelled: i64,
}

impl Counts {
    /// Counts of `count` cancelled deliveries.
    #[must_use]
    pub fn cancelled(count: i64) -> Self {
        Self { cancelled: count, ..Self::default() }
    }

    /// Counts that take back one delivery, which was settled in this state.
    #[must_use]
    pub fn without(state: DeliveryState) -> Self {
        let mut counts = Self::default();
        counts.take_back(state);
        counts
    }

    /// Takes back a delivery that was settled in this state.
    pub fn take_back(&mut self, state: DeliveryState) {
        match state {
            DeliveryState::Succeeded => self.succeeded -= 1,
            DeliveryState::Dead => self.dead -= 1,
            DeliveryState::Cancelled => self.cancelled -= 1,
            DeliveryState::Pending | DeliveryState::Held => {}
        }
    }
}

/// Adds to the counts of replays. It locks their rows in the order of their ids. It is one of the last statements of a
/// transaction, because other transactions count in the same rows.
///
/// # Errors
/// Returns an error if a query fails.
pub async fn add(connection: &mut Connection, counts: &BTreeMap<ReplayId, Counts>) -> Result<()> {
    if counts.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = counts.keys().map(|id| id.uuid()).collect();
    if ids.len() > 1 {
        // An update of several rows locks them in the order of its plan.
        sqlx::query!("select id from replays where id = any($1) order by id for no key update", &ids)
            .fetch_all(&mut *connection)
            .await?;
    }
    let column = |of: fn(&Counts) -> i64| counts.values().map(of).collect::<Vec<i64>>();
    sqlx::query!(
        "update replays set succeeded = replays.succeeded + more.succeeded, dead = replays.dead + more.dead,
                            cancelled = replays.cancelled + more.cancelled
         from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[]) as more (id, succeeded, dead, cancelled)
         where replays.id = more.id",
        &ids,
        &column(|count| count.succeeded),
        &column(|count| count.dead),
        &column(|count| count.cancelled)
    )
    .execute(connection)
    .await?;
    Ok(())
}
