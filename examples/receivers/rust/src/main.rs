//! A destination for Tidegate: verifies each delivery, stores it once, answers, and does the work afterwards.
//! `../../README.md` says how to run it.

use std::error::Error;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};
use standardwebhooks::{HEADER_WEBHOOK_ID, Webhook};

/// The largest body that is accepted, in bytes. Without a limit, anyone could fill the memory.
const LARGEST_BODY: usize = 10 * 1024 * 1024;
/// How long work that failed waits before it is tried again, in seconds.
const RETRY_AFTER_S: u32 = 10;

/// Tidegate delivers at least once: after a crash or a lost answer the same event comes again, with the same
/// webhook-id. The ids are kept in a database and not in memory, because a restart of this program must not forget
/// them. Keep them as long as Tidegate can deliver an event again: as long as it keeps bodies, 30 days by default.
const TABLES: &str = "
    create table if not exists inbox (
        webhook_id text primary key, body blob not null, received_at integer not null default (unixepoch()),
        not_before integer not null default 0, done_at integer
    );
    create table if not exists results (webhook_id text primary key, type text);
";

struct Inbox {
    webhook: Webhook,
    database: Mutex<Connection>,
    stored: Sender<()>,
}

fn connect(file: &str) -> rusqlite::Result<Connection> {
    let connection = Connection::open(file)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // A commit waits for the disk. The answer 2xx says that the event is stored.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.execute_batch(TABLES)?;
    Ok(connection)
}

impl Inbox {
    /// Stores the event unless it is stored already. When this returns, the event survives a crash of the machine.
    fn store(&self, id: &str, body: &[u8]) -> Result<(), Box<dyn Error>> {
        let database = self.database.lock().map_err(|_| "another request panicked")?;
        database.execute("insert into inbox (webhook_id, body) values (?1, ?2) on conflict do nothing", (id, body))?;
        Ok(())
    }
}

async fn receive(State(inbox): State<Arc<Inbox>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    // The bytes as they arrived: the signature covers them, and parsing and writing them again would change them.
    if let Err(error) = inbox.webhook.verify(&body, &headers) {
        eprintln!("refused: {error}");
        return StatusCode::UNAUTHORIZED;
    }
    let Some(id) = headers.get(HEADER_WEBHOOK_ID).and_then(|id| id.to_str().ok()).map(str::to_owned) else {
        return StatusCode::BAD_REQUEST;
    };
    let for_store = Arc::clone(&inbox);
    let stored =
        tokio::task::spawn_blocking(move || for_store.store(&id, &body).map_err(|error| error.to_string())).await;
    match stored {
        Ok(Ok(())) => {
            let _ = inbox.stored.send(());
            // Answered before the work is done: Tidegate waits 15 seconds, and work can take longer. What was received
            // before is answered 2xx too, or it would come again and again.
            StatusCode::NO_CONTENT
        }
        Ok(Err(error)) => {
            eprintln!("not stored: {error}");
            StatusCode::INTERNAL_SERVER_ERROR // Tidegate delivers it again later.
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The work: put your own here. What it writes with `transaction` is written exactly once.
fn work(transaction: &Connection, id: &str, body: &[u8]) -> Result<(), Box<dyn Error>> {
    // Parsed only here: until the signature was verified, the body could have been anyone's.
    let event: serde_json::Value = serde_json::from_slice(body)?;
    transaction.execute("insert into results (webhook_id, type) values (?1, ?2)", (id, event["type"].as_str()))?;
    Ok(())
}

/// Works on the oldest event that is not done, and returns whether there was one.
fn finish_one(database: &mut Connection) -> rusqlite::Result<bool> {
    let row: Option<(String, Vec<u8>)> = database
        .query_row(
            "select webhook_id, body from inbox
             where done_at is null and not_before <= unixepoch() order by received_at limit 1",
            (),
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let Some((id, body)) = row else { return Ok(false) };
    match finish(database, &id, &body) {
        Ok(()) => println!("done {id}"),
        Err(error) => {
            eprintln!("failed {id}: {error}; trying again in {} s", RETRY_AFTER_S);
            // Later, so that an event whose work always fails does not keep the others waiting.
            let later = "update inbox set not_before = unixepoch() + ?1 where webhook_id = ?2";
            database.execute(later, (RETRY_AFTER_S, &id))?;
        }
    }
    Ok(true)
}

fn finish(database: &mut Connection, id: &str, body: &[u8]) -> Result<(), Box<dyn Error>> {
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    work(&transaction, id, body)?;
    // In the same transaction as the work: after a crash there are both or none.
    transaction.execute("update inbox set done_at = unixepoch() where webhook_id = ?1", [id])?;
    transaction.commit()?;
    Ok(())
}

/// Works until the program ends.
fn work_forever(mut database: Connection, stored: &Receiver<()>) {
    loop {
        match finish_one(&mut database) {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => {
                eprintln!("the database failed: {error}; trying again in {} s", RETRY_AFTER_S);
            }
        }
        if stored.recv_timeout(Duration::from_secs(RETRY_AFTER_S.into())) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}

fn setting(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let secret = std::env::var("SIGNING_SECRET")
        .map_err(|_| "set SIGNING_SECRET to the signing secret of the destination: whsec_…")?;
    let file = setting("INBOX", "inbox.db");
    let (stored, was_stored) = mpsc::channel();
    let inbox = Inbox { webhook: Webhook::new(&secret)?, database: Mutex::new(connect(&file)?), stored };
    let database = connect(&file)?;
    std::thread::spawn(move || work_forever(database, &was_stored));
    let router = Router::new()
        .route("/webhooks", post(receive))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .with_state(Arc::new(inbox));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", setting("PORT", "9000").parse()?)).await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, router).await?)
}
