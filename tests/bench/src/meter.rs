//! The cost of a load: processor time by process, bytes of the write-ahead log and of the tables, dead rows, memory.

use std::time::{Duration, Instant};

use harness::error::{Doing as _, Result};

use super::machine;
use super::stack::Stack;

/// The readings before a load.
#[derive(Debug)]
pub struct Meter {
    begun: Instant,
    processor: Processor,
    database: Database,
}

/// The cost of a load.
#[derive(Debug, Clone, PartialEq)]
pub struct Usage {
    pub elapsed: Duration,
    /// Seconds of one core.
    pub processor: Processor,
    pub wal_bytes: i64,
    /// The growth of the tables and their indexes.
    pub table_bytes: i64,
    /// Rows of `pending_deliveries` that are dead and not yet vacuumed, at the end.
    pub dead_rows: i64,
    /// The resident memory of all relays together, at the end.
    pub memory_kib: u64,
}

/// Used processor time, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Processor {
    pub relays: f64,
    pub postgres: f64,
    /// This process: the load generator, the queue and the receivers.
    pub harness: f64,
}

#[derive(Debug, Clone, Copy)]
struct Database {
    wal_bytes: i64,
    table_bytes: i64,
    dead_rows: i64,
}

impl Meter {
    /// Starts a measurement.
    ///
    /// # Errors
    /// Returns an error if the query fails.
    pub async fn start(stack: &Stack) -> Result<Self> {
        let database = database(stack).await?;
        Ok(Self { processor: processor(stack), database, begun: Instant::now() })
    }

    /// Ends the measurement and returns the cost.
    ///
    /// # Errors
    /// Returns an error if the query fails.
    pub async fn stop(self, stack: &Stack) -> Result<Usage> {
        let (elapsed, processor) = (self.begun.elapsed(), processor(stack));
        let database = database(stack).await?;
        Ok(Usage {
            elapsed,
            processor: Processor {
                relays: processor.relays - self.processor.relays,
                postgres: processor.postgres - self.processor.postgres,
                harness: processor.harness - self.processor.harness,
            },
            wal_bytes: database.wal_bytes - self.database.wal_bytes,
            table_bytes: database.table_bytes - self.database.table_bytes,
            dead_rows: database.dead_rows,
            memory_kib: stack.relays().iter().filter_map(|relay| machine::memory_kib(relay.id())).sum(),
        })
    }
}

impl Usage {
    /// The notes of a report: the cost per delivery.
    #[must_use]
    pub fn notes(&self, deliveries: u64) -> Vec<String> {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let (count, wal, tables) = (deliveries.max(1) as f64, self.wal_bytes as f64, self.table_bytes as f64);
        let each = |seconds: f64| seconds * 1e6 / count;
        let cores = |seconds: f64| seconds / self.elapsed.as_secs_f64();
        let Processor { relays, postgres, harness } = self.processor;
        vec![
            format!(
                "processor time per delivery: relay {:.0} µs, PostgreSQL {:.0} µs, load generator with queue and \
                 receivers {:.0} µs ({:.2}, {:.2} and {:.2} cores)",
                each(relays),
                each(postgres),
                each(harness),
                cores(relays),
                cores(postgres),
                cores(harness),
            ),
            format!(
                "per delivery {:.0} bytes of WAL, {:.0} bytes of tables and indexes; {} dead rows in the hot table at \
                 the end; relay memory {} MB",
                wal / count,
                tables / count,
                self.dead_rows,
                self.memory_kib / 1024,
            ),
        ]
    }
}

fn processor(stack: &Stack) -> Processor {
    let relays = stack.relays().iter().filter_map(|relay| machine::processor_seconds(relay.id())).sum();
    let postgres = stack.server.id().map_or(0.0, machine::processor_seconds_with_children);
    Processor { relays, postgres, harness: machine::processor_seconds(std::process::id()).unwrap_or(0.0) }
}

async fn database(stack: &Stack) -> Result<Database> {
    let mut connection = stack.connect().await?;
    let (wal_bytes, table_bytes, dead_rows) = sqlx::query_as(
        "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint,
                (select sum(pg_table_size(oid) + pg_indexes_size(oid))::bigint from pg_class
                 where relkind = 'r' and relnamespace = 'public'::regnamespace),
                (select n_dead_tup from pg_stat_user_tables where relname = 'pending_deliveries')",
    )
    .fetch_one(&mut connection)
    .await
    .doing(|| "cannot read the database's statistics".to_owned())?;
    Ok(Database { wal_bytes, table_bytes, dead_rows })
}
