//! The cases, in the order of the report.

use std::pin::Pin;

use harness::error::Result;

use super::figure::Report;
use super::options::Options;

pub mod await_jobs;
pub mod ceiling;
pub mod chaos;
pub mod crowd;
pub mod customers;
pub mod dashboard;
pub mod dead;
pub mod edge;
pub mod fanout;
pub mod hanging;
pub mod history;
pub mod idle;
pub mod kill;
pub mod migration;
pub mod read;
pub mod replay;
pub mod replicas;
pub mod replicas_kill;
pub mod revocation;
pub mod silent;
pub mod steady;
pub mod stream;
pub mod throughput;
pub mod tokens;

/// A measurement.
pub struct Case {
    pub name: &'static str,
    /// A short description, for the list of cases.
    pub what: &'static str,
    pub run: fn(Options) -> Running,
}

/// A running case.
pub type Running = Pin<Box<dyn Future<Output = Result<Report>>>>;

/// All cases.
pub const ALL: &[Case] = &[
    Case {
        name: "ceiling",
        what: "a bare reqwest loop, and bare inserts into PostgreSQL: the maximum of this machine",
        run: |options| Box::pin(ceiling::run(options)),
    },
    Case {
        name: "edge",
        what: "the edge in bare workerd compared with a hand-written JavaScript Worker",
        run: |options| Box::pin(edge::run(options)),
    },
    Case {
        name: "throughput",
        what: "pulled, stored, delivered and settled at the maximum rate",
        run: |options| Box::pin(throughput::run(options)),
    },
    Case { name: "steady", what: "latency at half of the maximum", run: |options| Box::pin(steady::run(options)) },
    Case {
        name: "fanout",
        what: "one and ten destinations for each event",
        run: |options| Box::pin(fanout::run(options)),
    },
    Case {
        name: "dead",
        what: "next to a dead destination with a million waiting deliveries",
        run: |options| Box::pin(dead::run(options)),
    },
    Case {
        name: "hanging",
        what: "next to a destination that never answers",
        run: |options| Box::pin(hanging::run(options)),
    },
    Case {
        name: "history",
        what: "with ten million deliveries in history",
        run: |options| Box::pin(history::run(options)),
    },
    Case {
        name: "read",
        what: "calls that read, and the search in bodies, with ten million events in history",
        run: |options| Box::pin(read::run(options)),
    },
    Case {
        name: "replicas",
        what: "one, two and four relays on one database, and limits while each is restarted",
        run: |options| Box::pin(replicas::run(options)),
    },
    Case {
        name: "replay",
        what: "replays of ten thousand and of a hundred thousand events",
        run: |options| Box::pin(replay::run(options)),
    },
    Case {
        name: "idle",
        what: "memory, processor and queries of a relay without work",
        run: |options| Box::pin(idle::run(options)),
    },
    Case { name: "kill", what: "kill -9 at random moments under load", run: |options| Box::pin(kill::run(options)) },
    Case {
        name: "replicas-kill",
        what: "three relays under load, one of them killed every 20 seconds, and limits while that lasts",
        run: |options| Box::pin(replicas_kill::run(options)),
    },
    Case {
        name: "chaos",
        what: "PostgreSQL restarted, connections cut and used up, transactions left open, under load",
        run: |options| Box::pin(chaos::run(options)),
    },
    Case {
        name: "silent",
        what: "the database falls silent without closing its connections, under load",
        run: |options| Box::pin(silent::run(options)),
    },
    Case {
        name: "crowd",
        what: "a relay that starts when thousands of destinations are behind",
        run: |options| Box::pin(crowd::run(options)),
    },
    Case {
        name: "migration",
        what: "a relay of an earlier version is replaced by this one under load, and the database migrated",
        run: |options| Box::pin(migration::run(options)),
    },
    Case {
        name: "revocation",
        what: "how soon two relays refuse a token that was revoked through one of them",
        run: |options| Box::pin(revocation::run(options)),
    },
    Case {
        name: "stream",
        what: "200 streams of two relays, one of which is killed: no gap and no repetition",
        run: |options| Box::pin(stream::run(options)),
    },
    Case {
        name: "tokens",
        what: "what the look-up of a token adds to a call of the API",
        run: |options| Box::pin(tokens::run(options)),
    },
    Case {
        name: "customers",
        what: "a thousand customers with ten destinations each, compared with one customer that has all of them",
        run: |options| Box::pin(customers::run(options)),
    },
    Case {
        name: "dashboard",
        what: "the pages of the dashboard with ten million events in history, and twenty viewers under load",
        run: |options| Box::pin(dashboard::run(options)),
    },
    Case {
        name: "await",
        what: "two thousand jobs awaited while one of two relays is killed, and the memory of ten thousand waiting calls",
        run: |options| Box::pin(await_jobs::run(options)),
    },
    Case {
        name: "snapshots",
        what: "a transaction left idle and four long readers, for ten minutes, under load",
        run: |options| Box::pin(chaos::run_snapshots(options)),
    },
];
