//! positions: what reads the changes of events and deliveries by position misses none and reads none twice, in whatever
//! order transactions begin and commit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use harness::gateway::Gateway;
use harness::postgres::Database;
use harness::wait::{LONG, SOON, until};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use sqlx::{Connection as _, PgConnection};
use store::changes::{self, Change, Position, Read};
use tokio::sync::{Barrier, Semaphore};

/// Inserts deliveries in one statement, and returns their ids.
async fn insert(connection: &mut PgConnection, count: i32) -> Vec<String> {
    sqlx::query_scalar(
        "insert into pending_deliveries (id, customer_id, destination_id, event_id, source_id, due_at)
         select gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), now()
         from generate_series(1, $1) returning id::text",
    )
    .bind(count)
    .fetch_all(connection)
    .await
    .expect("inserts")
}

async fn run(connection: &mut PgConnection, statement: &'static str) {
    sqlx::raw_sql(statement).execute(connection).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
}

fn pool(database: &Database) -> store::Pool {
    store::Pool::new(database.url(), 4).expect("a pool")
}

/// A reader of changes.
struct Reader {
    pool: store::Pool,
    position: Position,
    /// The ids in the order in which they were read.
    ids: Vec<String>,
    /// The position after each of them.
    positions: Vec<Position>,
    /// How many statements have read.
    statements: usize,
}

impl Reader {
    async fn begin(pool: store::Pool) -> Self {
        let position = changes::begin(&pool).await.expect("a position");
        Self { pool, position, ids: Vec::new(), positions: Vec::new(), statements: 0 }
    }

    fn take(&mut self, changes: &[Change]) {
        for change in changes {
            for (index, id) in change.ids.iter().enumerate() {
                self.ids.push(id.to_string());
                self.positions.push(change.position_after(index));
            }
        }
    }

    /// Reads what can be read now, and returns whether changes wait for a transaction. `rows` are read at a time.
    async fn read(&mut self, rows: i64) -> bool {
        loop {
            self.statements += 1;
            match changes::read(&self.pool, self.position, rows).await.expect("reads") {
                Read::Changes(read) => {
                    self.take(&read.changes);
                    self.position = read.reached;
                    if !read.is_full {
                        return read.is_waiting;
                    }
                }
                refused @ (Read::Foreign | Read::TooOld) => panic!("{refused:?}"),
            }
        }
    }

    /// Reads until no change waits. The databases of other tests are on the same server, so their transactions delay
    /// changes too.
    async fn read_all(&mut self) {
        until("no change to wait for a transaction", LONG, async || {
            if self.read(3).await { Err(format!("{} are read", self.ids.len())) } else { Ok(()) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_commits_late_delays_later_changes_and_is_read_before_them() {
    let database = Database::create().await.expect("starts");
    let mut reader = Reader::begin(pool(&database)).await;
    let mut early = database.connect().await.expect("connects");
    let mut late = database.connect().await.expect("connects");
    run(&mut early, "begin").await;
    let first = insert(&mut early, 2).await;
    let second = insert(&mut late, 3).await;
    assert!(reader.read(10).await, "the change of the later transaction waits");
    assert_eq!(reader.ids, Vec::<String>::new(), "the earlier transaction may still commit a change");
    run(&mut early, "commit").await;
    reader.read_all().await;
    assert_eq!(reader.ids, [first, second].concat());

    // A transaction that is rolled back leaves no gap that is waited for.
    run(&mut early, "begin").await;
    insert(&mut early, 1).await;
    let third = insert(&mut late, 1).await;
    assert!(reader.read(10).await);
    run(&mut early, "rollback").await;
    reader.read_all().await;
    assert_eq!(reader.ids[5..], third);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_miss_nothing_and_read_nothing_twice_while_writers_commit_out_of_order() {
    const WRITERS: usize = 12;
    const TRANSACTIONS: usize = 15;
    let seed = rand::random::<u64>();
    let database = Arc::new(Database::create().await.expect("starts"));
    let mut reader = Reader::begin(pool(&database)).await;
    let from = reader.position;
    let (begun, writing) = (Arc::new(Barrier::new(WRITERS)), Arc::new(Semaphore::new(0)));
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let (database, begun) = (Arc::clone(&database), Arc::clone(&begun));
            let writing = Arc::clone(&writing);
            tokio::spawn(async move {
                let mut random = StdRng::seed_from_u64(seed.wrapping_add(u64::try_from(number).expect("small")));
                let mut connection = database.connect().await.expect("connects");
                let mut committed = Vec::new();
                for _ in 0..TRANSACTIONS {
                    run(&mut connection, "begin").await;
                    let mut ids = insert(&mut connection, random.random_range(1..4)).await;
                    // All transactions of a round are open at the same time. Then they end in any order, some after
                    // they have written more.
                    begun.wait().await;
                    for _ in 0..random.random_range(0..3) {
                        ids.extend(insert(&mut connection, random.random_range(1..4)).await);
                    }
                    if random.random_bool(0.2) {
                        run(&mut connection, "rollback").await;
                    } else {
                        run(&mut connection, "commit").await;
                        committed.extend(ids);
                    }
                }
                writing.add_permits(1);
                committed
            })
        })
        .collect();
    while writing.available_permits() < WRITERS {
        reader.read(3).await;
    }
    let statements = reader.statements;
    let mut written = BTreeSet::new();
    for writer in writers {
        written.extend(writer.await.expect("ends"));
    }
    reader.read_all().await;
    assert!(statements > 3, "the reader reads while transactions run; seed {seed}");
    assert_eq!(reader.ids.iter().cloned().collect::<BTreeSet<_>>(), written, "nothing is missed; seed {seed}");
    assert_eq!(reader.ids.len(), written.len(), "nothing is read twice; seed {seed}");
    assert!(reader.positions.windows(2).all(|pair| pair[0] < pair[1]), "positions grow; seed {seed}");

    // A reader that continues after any of the changes, in the middle of a statement too, reads the rest.
    for after in [0, 1, 2, 17, written.len() - 1] {
        let mut resumed =
            Reader { pool: pool(&database), position: from, ids: Vec::new(), positions: Vec::new(), statements: 0 };
        resumed.position = reader.positions[after].to_string().parse().expect("a position");
        resumed.read_all().await;
        assert_eq!(resumed.ids, reader.ids[after + 1..], "after {after}; seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_of_another_history_of_the_database_are_refused() {
    let database = Database::create().await.expect("starts");
    let mut connection = database.connect().await.expect("connects");
    let mut reader = Reader::begin(pool(&database)).await;
    insert(&mut connection, 1).await;
    reader.read_all().await;
    assert_eq!(reader.ids.len(), 1);
    // What the database holds after a dump of another one was restored into it.
    run(&mut connection, "update change_history set database = 'another'").await;
    let now = changes::begin(&reader.pool).await.expect("a position");
    assert_ne!(now.history, reader.position.history);
    assert_eq!(changes::read(&reader.pool, reader.position, 10).await.expect("reads"), Read::Foreign);
    let count: i64 =
        sqlx::query_scalar("select count(*) from changes").fetch_one(&mut connection).await.expect("counts");
    assert_eq!(count, 0, "the numbers of the transactions of another history mean nothing");
    // The new history stays.
    assert_eq!(changes::begin(&reader.pool).await.expect("a position").history, now.history);
    let ids = insert(&mut connection, 1).await;
    let mut reader = Reader { position: now, ids: Vec::new(), positions: Vec::new(), ..reader };
    reader.read_all().await;
    assert_eq!(reader.ids, ids);
    // A transaction that this database has not had yet.
    let future = Position { transaction: now.transaction + 1_000_000, ..now };
    assert_eq!(changes::read(&reader.pool, future, 10).await.expect("reads"), Read::Foreign);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_dropped_after_days_and_positions_before_them_are_refused() {
    let mut gateway = Gateway::relay_only().await;
    gateway.relay.stop().await.expect("stops");
    let mut connection = gateway.database.connect().await.expect("connects");
    let mut reader = Reader::begin(pool(&gateway.database)).await;
    let from = reader.position;
    insert(&mut connection, 1).await;
    reader.read_all().await;
    let kept = reader.position;
    // The changes so far were made five days ago.
    run(&mut connection, "select create_day(current_date - 5); update changes set day = current_date - 5").await;
    insert(&mut connection, 1).await;
    gateway.relay.start_again().await.expect("starts again");
    until("the old changes to be dropped", LONG, async || {
        match changes::read(&reader.pool, from, 10).await.expect("reads") {
            Read::TooOld => Ok(()),
            other @ (Read::Changes(_) | Read::Foreign) => Err(format!("{other:?}")),
        }
    })
    .await;
    let mut resumed = Reader { position: kept, ids: Vec::new(), positions: Vec::new(), ..reader };
    resumed.read_all().await;
    assert_eq!(resumed.ids.len(), 1, "the later change is kept");
    drop(connection.close().await);
}

/// The new states of deliveries and events, and how many objects got each.
async fn states(connection: &mut PgConnection) -> BTreeMap<String, i64> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "select concat_ws(' ', kind, state), sum(cardinality(ids))::bigint from changes group by 1 order by 1",
    )
    .fetch_all(connection)
    .await
    .expect("reads");
    rows.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_and_its_delivery_are_changes_from_the_store_to_the_outcome() {
    let gateway = Gateway::relay_only().await;
    let mut connection = gateway.database.connect().await.expect("connects");
    let line = gateway.line("shop").await;
    gateway.push_many(&line.source, 5);
    gateway.api.wait_for_rows("/v1/deliveries?state=succeeded", 5, SOON).await;
    let expected = [
        ("attempt_made", 5),
        ("delivery_state_changed pending", 5),
        ("delivery_state_changed succeeded", 5),
        ("event_stored", 5),
    ];
    let expected: BTreeMap<String, i64> = expected.map(|(kind, count)| (kind.to_owned(), count)).into();
    assert_eq!(states(&mut connection).await, expected);
}
