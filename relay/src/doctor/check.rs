//! Evaluates the results of the queries and calls of `tidegate doctor`.

use std::time::{Duration, SystemTime};

use serde_json::Value;
use store::health::{Health, Standbys};
use url::Url;

use crate::config::Config;
use crate::configuration::Snapshot;
use crate::descriptors;

/// The maximum difference between the clocks of the relay and the database.
pub(crate) const CLOCK_DIFFERENCE: Duration = Duration::from_secs(5);

/// The oldest supported PostgreSQL, as in `server_version_num`.
const OLDEST_POSTGRES: i32 = 150_000;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Check {
    Ok(String),
    /// Worth knowing, but `doctor` does not fail because of it.
    Warn(String),
    /// Events can be lost or are not delivered.
    Fail(String),
}

impl Check {
    /// `Ok` as [`Check::Ok`], `Err` as [`Check::Fail`].
    pub(super) fn of(result: Result<String, String>) -> Self {
        match result {
            Ok(text) => Self::Ok(text),
            Err(text) => Self::Fail(text),
        }
    }
}

/// `limit` is the maximum number of files that a process started like this one may have open.
pub(super) fn files(limit: Option<u64>, config: &Config) -> Check {
    match (descriptors::shortage(limit, config), limit) {
        (Some(shortage), _) => Check::Warn(shortage),
        (None, Some(limit)) => Check::Ok(format!("up to {limit} files can be open")),
        (None, None) => Check::Ok("no limit on open files".to_owned()),
    }
}

pub(super) fn database(health: &Health) -> Check {
    let version = format!("PostgreSQL {}", health.version);
    if health.version_number < OLDEST_POSTGRES {
        return Check::Fail(format!("{version} is too old: 15 or newer is needed"));
    }
    if !health.fsync {
        return Check::Fail(format!(
            "{version} has fsync = off, so that a crash can lose acknowledged events; set fsync = on"
        ));
    }
    Check::Ok(version)
}

pub(super) fn migrations(found: Option<i64>, wanted: i64) -> Check {
    match found {
        Some(version) if version == wanted => {
            Check::Ok(format!("the database schema is up to date (version {version})"))
        }
        Some(version) if version > wanted => Check::Warn(format!(
            "the database was migrated by a newer relay (version {version} of the schema, this relay knows {wanted}); \
             this relay keeps working on it for one version: upgrade it"
        )),
        version => Check::Fail(format!(
            "the database schema (version {}) is older than this relay requires ({wanted}); run `tidegate migrate`",
            version.unwrap_or(0)
        )),
    }
}

pub(super) fn clock(ours: SystemTime, theirs: SystemTime) -> Check {
    let difference = ours.duration_since(theirs).unwrap_or_else(|error| error.duration());
    let text = format!("the relay's clock differs from the database's by {} ms", difference.as_millis());
    if difference > CLOCK_DIFFERENCE {
        Check::Fail(format!("{text}; synchronise both machines with NTP"))
    } else {
        Check::Ok(text)
    }
}

pub(super) fn standbys(standbys: &Standbys) -> Check {
    let Standbys { connected, visible, synchronous, names } = standbys;
    let count = match connected {
        0 => return Check::Ok("no standby is connected".to_owned()),
        1 => "1 standby is connected".to_owned(),
        _ => format!("{connected} standbys are connected"),
    };
    if names.is_empty() {
        return Check::Warn(format!(
            "{count}, but replication is asynchronous (synchronous_standby_names is empty), so that a failover can \
             lose acknowledged events; set synchronous_standby_names, for example to 'ANY 1 (*)'"
        ));
    }
    let state = match visible {
        0 => "the state of the standbys is not visible to this role; grant it pg_monitor".to_owned(),
        _ => format!("{synchronous} of {visible} standbys are synchronous"),
    };
    Check::Ok(format!("{count}; synchronous_standby_names is \"{names}\"; {state}"))
}

/// The number of sources or destinations, and how many of them have a sealed column that no key opens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sealed {
    pub(super) all: usize,
    pub(super) closed: usize,
    /// How many values another key than the first one has sealed.
    pub(super) older: usize,
}

/// `keys` is the number of keys in `TIDEGATE_MASTER_KEY`.
pub(super) fn secrets(keys: usize, sources: Sealed, destinations: Sealed) -> Check {
    if sources.closed + destinations.closed == 0 {
        let all = sources.all + destinations.all;
        let opens = format!("TIDEGATE_MASTER_KEY decrypts the secrets of all {all} sources and destinations");
        return match (sources.older + destinations.older, keys) {
            (0, 0 | 1) => Check::Ok(opens),
            (0, _) => {
                Check::Ok(format!("{opens}; all are encrypted with its first key, so its older keys may be removed"))
            }
            (older, _) => Check::Warn(format!(
                "{opens}, but {older} values are still encrypted with an older key: keep it, restart every relay with the \
                 new key first, and run the operation POST /v1/operations {{\"kind\":\"reseal\"}}"
            )),
        };
    }
    let of = |what: &str, sealed: Sealed| format!("{} of {} {what}", sealed.closed, sealed.all);
    Check::Fail(format!(
        "no key in TIDEGATE_MASTER_KEY decrypts the secrets of {} and {}; append the key with which they were \
         encrypted, separated by a comma",
        of("sources", sources),
        of("destinations", destinations)
    ))
}

/// The maximum number of destinations and routes that are named.
const NAMED: usize = 5;

/// Whether a relay of this version with these settings can send to every destination and evaluate every route.
/// `refused` returns the reason if the current settings do not allow sending to a URL.
pub(super) fn configuration(snapshot: &Snapshot, refused: impl Fn(&Url) -> Option<String>) -> Check {
    let destinations = snapshot
        .unusable
        .values()
        .map(|destination| format!("destination {}: {}", destination.name, destination.reason));
    let refused = snapshot.destinations.values().filter_map(|destination| {
        Some(format!("destination {}: its URL is not allowed: {}", destination.name, refused(&destination.url)?))
    });
    let routes = snapshot.routes.values().filter_map(|route| Some(format!("route {}: {}", route.id, route.problem()?)));
    let mut problems: Vec<String> = destinations.chain(refused).chain(routes).collect();
    if problems.is_empty() {
        let (destinations, routes) = (snapshot.destinations.len(), snapshot.routes.len());
        return Check::Ok(format!("all {destinations} destinations and {routes} routes are usable"));
    }
    problems.sort_unstable();
    let all = problems.len();
    problems.truncate(NAMED);
    let more = if all > NAMED { format!("; and {} more", all - NAMED) } else { String::new() };
    Check::Fail(format!("{all} unusable destinations or routes: {}{more}", problems.join("; ")))
}

/// `status` is the response of the edge's `/admin/status`.
pub(super) fn edge(url: &str, status: &Value) -> Check {
    if status["ready"] == true {
        let version = status["version"].as_str().unwrap_or("version unknown");
        return Check::Ok(format!("{url} is ready (edge {version})"));
    }
    let missing: Vec<&str> = status["missing"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let missing = if missing.is_empty() { status.to_string() } else { missing.join("; ") };
    Check::Fail(format!("{url} is not ready: {missing}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(check: Check) -> (&'static str, String) {
        match check {
            Check::Ok(text) => ("ok", text),
            Check::Warn(text) => ("warn", text),
            Check::Fail(text) => ("fail", text),
        }
    }

    #[test]
    fn an_edge_that_is_not_ready_fails_with_the_list_of_missing_parts() {
        let missing = "the secret SEAL_KEY is missing: run `wrangler secret put SEAL_KEY`";
        let (level, said) = text(edge("https://hooks.example.com", &json!({ "ready": false, "missing": [missing] })));
        assert_eq!((level, said), ("fail", format!("https://hooks.example.com is not ready: {missing}")));
        assert_eq!(text(edge("https://e", &json!({ "ready": true, "missing": [], "version": "1" }))).0, "ok");
        assert_eq!(text(edge("https://e", &json!({}))).0, "fail");
    }

    #[test]
    fn an_asynchronous_standby_is_a_warning() {
        let found = |connected, visible, synchronous, names: &str| {
            text(standbys(&Standbys { connected, visible, synchronous, names: names.to_owned() }))
        };
        assert_eq!(found(0, 0, 0, "").0, "ok");
        let (level, said) = found(1, 1, 0, "");
        assert_eq!(level, "warn");
        assert!(said.contains("synchronous_standby_names"), "{said}");
        assert_eq!(found(2, 0, 0, "").0, "warn", "the state of the standbys is hidden, the setting is not");
        let (level, said) = found(2, 0, 0, "ANY 1 (*)");
        assert_eq!(level, "ok");
        assert!(said.contains("pg_monitor"), "{said}");
        assert_eq!(found(2, 2, 1, "ANY 1 (*)").0, "ok");
    }

    #[test]
    fn secrets_that_do_not_open_are_counted() {
        let sealed = |all, closed| Sealed { all, closed, older: 0 };
        assert_eq!(text(secrets(1, sealed(3, 0), sealed(2, 0))).0, "ok");
        let (level, said) = text(secrets(1, sealed(3, 1), sealed(2, 0)));
        assert_eq!(level, "fail");
        assert!(said.contains("1 of 3 sources and 0 of 2 destinations"), "{said}");
        assert_eq!(text(secrets(1, sealed(3, 0), sealed(2, 2))).0, "fail");
        let (level, said) = text(secrets(2, sealed(3, 0), sealed(2, 0)));
        assert!(level == "ok" && said.contains("its older keys may be removed"), "{said}");
        let older = Sealed { older: 4, ..sealed(3, 0) };
        let (level, said) = text(secrets(2, older, sealed(2, 0)));
        assert!(level == "warn" && said.contains("4 values are still encrypted with an older key"), "{said}");
    }

    #[test]
    fn versions_of_the_database_are_compared_in_both_directions() {
        assert_eq!(text(migrations(Some(2), 2)).0, "ok");
        for found in [None, Some(1)] {
            assert_eq!(text(migrations(found, 2)).0, "fail", "{found:?}");
        }
        let (level, said) = text(migrations(Some(3), 2));
        assert_eq!(level, "warn", "the relay of the version before keeps working");
        assert!(said.contains("version 3") && said.contains("knows 2"), "{said}");
    }

    #[test]
    fn clocks_may_differ_by_five_seconds_in_either_direction() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_000_000);
        let (five, six) = (Duration::from_secs(5), Duration::from_secs(6));
        for (ours, theirs) in [(now, now + five), (now + five, now)] {
            assert_eq!(text(clock(ours, theirs)).0, "ok");
        }
        for (ours, theirs) in [(now, now + six), (now + six, now)] {
            assert_eq!(text(clock(ours, theirs)).0, "fail");
        }
    }
}
