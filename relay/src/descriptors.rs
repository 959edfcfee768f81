//! File descriptors: every connection needs one. A process that has none left can neither send requests nor accept
//! connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;

/// The descriptors that a relay needs in addition to those for destinations, the database and its own API: the queue,
/// the edge, the name servers, the runtime, and connections that have just been abandoned.
pub(crate) const OTHERS: u64 = 128;

/// If there are few descriptors, the API's connections may use at most 1/`API_PART` of them: deliveries need the
/// others.
const API_PART: u64 = 4;

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
pub fn api_connections(limit: Option<u64>) -> usize {
    let part = limit.map_or(u64::MAX, |limit| (limit / API_PART).max(1));
    usize::try_from(part).unwrap_or(usize::MAX).min(crate::api::server::MAX_CONNECTIONS)
}

/// Describes what is wrong with a limit of descriptors under these settings, and how to fix it.
#[must_use]
pub fn shortage(limit: Option<u64>, config: &Config) -> Option<String> {
    short(limit, config.max_in_flight, config.database_connections)
}

fn short(limit: Option<u64>, max_in_flight: usize, database_connections: u32) -> Option<String> {
    let limit = limit?;
    let in_flight = u64::try_from(max_in_flight).unwrap_or(u64::MAX);
    let api = u64::try_from(api_connections(Some(limit))).unwrap_or(u64::MAX);
    let needed = in_flight.saturating_add(database_connections.into()).saturating_add(api).saturating_add(OTHERS);
    (limit < needed).then(|| {
        format!(
            "this process can open {limit} files, but needs {needed}: {in_flight} for attempts \
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
    fn the_api_takes_a_quarter_of_few_descriptors_and_never_more_than_its_limit() {
        assert_eq!((api_connections(Some(100)), api_connections(Some(2))), (25, 1));
        assert_eq!((api_connections(Some(1 << 40)), api_connections(None)), (1_024, 1_024));
    }
}
