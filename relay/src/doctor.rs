//! `relay doctor`: checks everything the relay depends on, and says what to do where something is wrong.

use std::time::{Duration, SystemTime};

use crate::config::Config;
use crate::edge::Edge;
use crate::pull::api::Queue;
use crate::store;

/// How far the clocks of the relay and the database may differ.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(5);

/// Checks and prints one line per check.
///
/// # Errors
/// How many checks failed.
pub async fn doctor(config: &Config) -> Result<(), String> {
    let mut failed = 0;
    let mut report = |what: &str, result: Result<String, String>| {
        let (mark, text) = match result {
            Ok(text) => ("ok  ", text),
            Err(text) => {
                failed += 1;
                ("FAIL", text)
            }
        };
        line(&format!("{mark}  {what:<10} {text}"));
    };
    report("settings", Ok("complete".to_owned()));
    match store::connect(&config.database_url, 4) {
        Err(error) => report("database", Err(format!("DATABASE_URL cannot be used: {error}"))),
        Ok(pool) => {
            let reached = store::health::look(&pool).await;
            match reached {
                Err(error) => report(
                    "database",
                    Err(format!("cannot be reached: {error}; check DATABASE_URL and that PostgreSQL runs")),
                ),
                Ok(health) => {
                    report("database", database(&health));
                    report("migrations", migrations(&health));
                    report("clock", clock(&health));
                }
            }
        }
    }
    match Edge::new(&config.edge_url, config.edge_admin_token.reveal()) {
        Err(error) => report("edge", Err(error.to_string())),
        Ok(edge) => report("edge", edge.status().await.map(|status| format!("{} answers: {status}", config.edge_url))),
    }
    match Queue::all(&config.queue) {
        Err(error) => report("queue", Err(error.to_string())),
        Ok(queues) => {
            for queue in queues {
                report(
                    "queue",
                    queue
                        .look()
                        .await
                        .map(|backlog| format!("{}: {backlog}", queue.id()))
                        .map_err(|error| error.to_string()),
                );
            }
        }
    }
    match failed {
        0 => Ok(()),
        1 => Err("1 check failed".to_owned()),
        count => Err(format!("{count} checks failed")),
    }
}

fn database(health: &store::health::Health) -> Result<String, String> {
    let version = format!("PostgreSQL {}", health.version);
    if health.version_number < 150_000 {
        return Err(format!("{version} is too old: 15 or newer is needed"));
    }
    if !health.synchronous_commit {
        return Err(format!("{version} has synchronous_commit off: an acknowledged event could be lost; set it to on"));
    }
    if !health.fsync {
        return Err(format!("{version} has fsync off: an acknowledged event could be lost; set it to on"));
    }
    Ok(version)
}

fn migrations(health: &store::health::Health) -> Result<String, String> {
    let wanted = store::MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or(0);
    match health.migration {
        Some(version) if version == wanted => Ok(format!("at version {version}")),
        Some(version) if version > wanted => {
            Err(format!("the database is at version {version}, this relay knows {wanted}: run a newer relay"))
        }
        version => Err(format!(
            "the database is at version {}, this relay wants {wanted}: run `relay migrate`",
            version.unwrap_or(0)
        )),
    }
}

fn clock(health: &store::health::Health) -> Result<String, String> {
    let (ours, theirs) = (SystemTime::now(), SystemTime::from(health.now));
    let difference = ours.duration_since(theirs).unwrap_or_else(|error| error.duration());
    let text = format!("differs from the database's by {} ms", difference.as_millis());
    if difference > CLOCK_DIFFERENCE { Err(format!("{text}: synchronise both by NTP")) } else { Ok(text) }
}

#[expect(clippy::print_stdout, reason = "what the command is for")]
fn line(text: &str) {
    println!("{text}");
}
