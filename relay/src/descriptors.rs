//! File descriptors: every connection needs one. A process that has none left can neither send requests nor accept
//! connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::api::server::{MAX_CONNECTIONS, Room};
use crate::config::Config;
use crate::waiters::MAX_WAITERS;

/// The descriptors that a relay needs in addition to those for destinations, the database and its own API: the queue,
/// the edge, the name servers, the runtime, and connections that have just been abandoned.
pub(crate) const OTHERS: u64 = 128;

/// If there are few descriptors, the API's connections may use at most 1/`API_PART` of them: deliveries need the
/// others.
const API_PART: u64 = 4;

/// Connections whose call waits may use what nothing else needs, and at least 1/`WAITING_PART` of the descriptors.
const WAITING_PART: u64 = 16;

/// Raises the limit of this process to its maximum. Returns how many descriptors it may have open; `None` if there is
/// no limit.
#[must_use]
pub fn raise() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "could not raise the limit of open files");
        }
    }
    getrlimit(Resource::Nofile).current
}

/// How many connections to the API may be open at a time, given the limit of descriptors.
#[must_use]
pub fn api_room(limit: Option<u64>, config: &Config) -> Room {
    room(limit, config.max_in_flight, config.database_connections)
}

fn room(limit: Option<u64>, max_in_flight: usize, database_connections: u32) -> Room {
    let Some(limit) = limit else { return Room { connections: MAX_CONNECTIONS, waiting: MAX_WAITERS } };
    let number = |part: u64| usize::try_from(part.max(1)).unwrap_or(usize::MAX);
    let connections = number(limit / API_PART).min(MAX_CONNECTIONS);
    let left = limit.saturating_sub(needed(connections, max_in_flight, database_connections));
    Room { connections, waiting: number(left.max(limit / WAITING_PART)).min(MAX_WAITERS) }
}

/// The descriptors that a relay needs with so many connections to its API, without those whose call waits.
fn needed(api: usize, max_in_flight: usize, database_connections: u32) -> u64 {
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    number(max_in_flight).saturating_add(database_connections.into()).saturating_add(number(api)).saturating_add(OTHERS)
}

/// Describes what is wrong with a limit of descriptors under these settings, and how to fix it.
#[must_use]
pub fn shortage(limit: Option<u64>, config: &Config) -> Option<String> {
    short(limit, config.max_in_flight, config.database_connections)
}

fn short(limit: Option<u64>, max_in_flight: usize, database_connections: u32) -> Option<String> {
    let limit = limit?;
    let api = room(Some(limit), max_in_flight, database_connections).connections;
    let needed = needed(api, max_in_flight, database_connections);
    (limit < needed).then(|| {
        format!(
            "this process can open {limit} files, but needs {needed}: {max_in_flight} for attempts \
             (TIDEGATE_MAX_IN_FLIGHT), {database_connections} for the database, {api} for the API and {OTHERS} for \
             everything else; raise the hard limit (systemd: LimitNOFILE=, Docker: --ulimit nofile=, shell: ulimit \
             -Hn) or lower TIDEGATE_MAX_IN_FLIGHT"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_need_more_than_the_usual_soft_limit_and_less_than_the_usual_hard_limit() {
        let short = |limit| short(limit, 1_024, 16);
        assert!(short(Some(1_024)).is_some_and(|text| text.contains("1024 files, but needs 1424")));
        assert_eq!((short(Some(4_096)), short(Some(524_288)), short(None)), (None, None, None));
    }

    #[test]
    fn the_api_takes_a_quarter_of_few_descriptors_and_calls_that_wait_take_what_is_left() {
        let room = |limit| {
            let Room { connections, waiting } = room(limit, 1_024, 16);
            (connections, waiting)
        };
        assert_eq!((room(Some(400)), room(Some(2))), ((100, 25), (1, 1)));
        assert_eq!(room(Some(4_096)), (1_024, 4_096 - 1_024 - 1_024 - 16 - 128));
        assert_eq!((room(Some(1 << 40)), room(None)), ((1_024, 10_000), (1_024, 10_000)));
    }
}
