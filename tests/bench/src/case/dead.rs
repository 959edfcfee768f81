//! A healthy destination next to a dead one for which a million deliveries wait.

use harness::error::{Error, Result};
use harness::{tools, wait};
use serde_json::json;

use crate::figure::Report;
use crate::options::Options;
use crate::pairs::{Side, compare};
use crate::run::PATIENCE;
use crate::stack::Stack;

/// Measures the deliveries to the healthy destination with and without the dead one.
///
/// # Errors
/// Returns an error if a part does not start, or if the deliveries are not settled in time.
pub async fn run(options: Options) -> Result<Report> {
    let rows = options.rows.unwrap_or(options.pick(1_000_000, 20_000));
    let (without, with) = (Side::start("healthy").await?, Side::start("healthy").await?);
    let stack = &with.stack;
    let nobody = stack.source("nobody").await;
    let url = format!("http://127.0.0.1:{}/", tools::free_port()?);
    stack.destination(&nobody, "dead", &url, json!({})).await;
    stack.push(&nobody, 0);
    fill(stack, rows).await?;
    let pairs = compare(&without, &with, &["dead"], options.pick(5, 1), options.time(20, 3)).await?;

    let mut report = Report::new(format!("One dead destination with {rows} pending"));
    pairs.report(&mut report, "deliveries to the healthy one without it", "deliveries to the healthy one next to it");
    let mut connection = stack.connect().await?;
    let tried: i64 = sqlx::query_scalar(
        "select count(*) from attempts where destination_id = (select id from destinations where name = 'dead')",
    )
    .fetch_one(&mut connection)
    .await
    .map_err(|error| Error::new(error.to_string()))?;
    report.note(format!("attempts at the dead destination in all: {tried}"));
    Ok(report)
}

/// Inserts waiting deliveries, all of the one event that has been pushed.
async fn fill(stack: &Stack, rows: u64) -> Result<()> {
    let made = wait::try_until("the first delivery to the dead destination", PATIENCE, async || {
        let made = stack
            .execute(format!(
                "insert into pending_deliveries (id, customer_id, destination_id, event_id, source_id, route_id, due_at)
                 select (lpad(to_hex((extract(epoch from now()) * 1000)::bigint), 12, '0') || '7'
                         || substr(random, 1, 3) || '8' || substr(random, 4, 15))::uuid,
                        customer_id, destination_id, event_id, source_id, route_id, now()
                 from (select * from pending_deliveries
                       where destination_id = (select id from destinations where name = 'dead') limit 1) first,
                      (select md5(number::text) as random from generate_series(1, {rows}) number) numbers"
            ))
            .await;
        match made {
            Ok(made) if made == rows => Ok(()),
            Ok(_) => Err("it is not stored yet".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    });
    made.await.map_err(Error::new)?;
    stack.execute("analyze pending_deliveries".to_owned()).await?;
    Ok(())
}
