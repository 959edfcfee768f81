//! Every setting of the relay, read once from the environment.
//!
//! The README's table of settings is [`SETTINGS`]; a test keeps the two in step. All errors are reported at once, so
//! that one round of corrections fixes a deployment.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use shared::seal::SealingKey;
use shared::source::Secret;
use tracing_subscriber::EnvFilter;
use url::Url;

use crate::history::Retention;

pub use self::oidc::{Group, OidcConfig};
pub use self::shown::ShownSetting;

pub(crate) mod oidc;
mod shown;

/// The minimum number of days for which history is kept: more than a message can wait in the queue.
pub(crate) const LEAST_RETENTION_DAYS: u64 = 21;

/// One environment variable.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    pub name: &'static str,
    /// `None`: the relay does not start without it.
    pub default: Option<&'static str>,
    /// The first sentence completes "set it to …".
    pub meaning: &'static str,
}

impl Setting {
    /// What to set it to.
    fn value(&self) -> &'static str {
        self.meaning.split(". ").next().unwrap_or(self.meaning)
    }
}

macro_rules! settings {
    ($($constant:ident = $name:literal, $default:expr, $meaning:literal;)*) => {
        $(const $constant: Setting = Setting { name: $name, default: $default, meaning: $meaning };)*
        /// All settings, in the order of the README's table.
        pub const SETTINGS: &[Setting] = &[$($constant),*];
    };
}

settings! {
    DATABASE_URL = "DATABASE_URL", None,
        "the URL of a PostgreSQL database, version 15 or newer, such as `postgres://user:password@host/database`";
    MASTER_KEY = "TIDEGATE_MASTER_KEY", None,
        "the key with which secrets are encrypted: 32 random bytes in base64 (`openssl rand -base64 32`). To replace the key, list several, separated by commas: the first one encrypts, all of them decrypt";
    ADMIN_TOKEN = "TIDEGATE_ADMIN_TOKEN", None,
        "the root token of the REST API, which may do everything: at least 16 characters without a comma. To replace it, list two, separated by commas: both are accepted";
    EDGE_URL = "TIDEGATE_EDGE_URL", None,
        "the URL of the edge, such as `https://hooks.example.com`; the ingest URLs of sources begin with it";
    EDGE_ADMIN_TOKEN = "TIDEGATE_EDGE_ADMIN_TOKEN", None,
        "the value of the edge's secret `ADMIN_TOKEN`";
    QUEUE_ACCOUNT_ID = "TIDEGATE_QUEUE_ACCOUNT_ID", None,
        "the id of the Cloudflare account that has the queues";
    QUEUE_IDS = "TIDEGATE_QUEUE_IDS", None,
        "the ids of all queues to pull, `tidegate-dead` among them: 32 hexadecimal digits each, not the names, separated by commas";
    QUEUE_TOKEN = "TIDEGATE_QUEUE_TOKEN", None,
        "a Cloudflare API token with the permissions *Queues: Read* and *Queues: Edit*";
    QUEUE_API = "TIDEGATE_QUEUE_API", Some("https://api.cloudflare.com/client/v4"),
        "the base URL of the Cloudflare API";
    QUEUE_IDLE_MS = "TIDEGATE_QUEUE_IDLE_MS", Some("1000"),
        "the maximum pause between two pulls of an empty queue, in milliseconds (50 to 60000). Cloudflare bills every pull; a longer pause delays the first event after an idle period";
    LISTEN = "TIDEGATE_LISTEN", Some("127.0.0.1:8400"),
        "the IP address and port that the REST API listens on";
    PUBLIC_URL = "TIDEGATE_PUBLIC_URL", Some(""),
        "the URL under which browsers reach the relay, without a path, such as `https://tidegate.example.com`. Session cookies are made for it and accepted only from its pages. If it is not set, the relay takes the host of each request, and `https` if the request has the header `X-Forwarded-Proto: https`";
    DASHBOARD = "TIDEGATE_DASHBOARD", Some("on"),
        "`on` or `off`: whether the relay serves the dashboard, at `/dashboard`. `design` serves also `/dashboard/design`, which shows every part of its style sheet to those who develop it; `cargo dev` sets this";
    CORS_ORIGINS = "TIDEGATE_CORS_ORIGINS", Some(""),
        "the origins of web pages that may await jobs (`GET /v1/await/{source}/{key}`) with an await token, separated by commas, such as `https://app.example.com`. Other calls are never allowed to pages of other origins";
    API_REQUESTS_PER_MINUTE = "TIDEGATE_API_REQUESTS_PER_MINUTE", Some("30000"),
        "the maximum number of requests a minute that a token or a session may make to the REST API of this relay (60 to 10000000). All root tokens count as one";
    OIDC_ISSUER = "TIDEGATE_OIDC_ISSUER", Some(""),
        "the issuer of an OpenID Connect provider with which people sign in, exactly as the provider writes it, such as `https://login.example.com/realms/company`. Needs `TIDEGATE_PUBLIC_URL`; register that URL with the path `/auth/oidc/callback` as the redirect URI";
    OIDC_CLIENT_ID = "TIDEGATE_OIDC_CLIENT_ID", Some(""),
        "the id of the relay's client at that provider";
    OIDC_CLIENT_SECRET = "TIDEGATE_OIDC_CLIENT_SECRET", Some(""),
        "the secret of that client; none if it is a public client";
    OIDC_SCOPES = "TIDEGATE_OIDC_SCOPES", Some("profile email"),
        "the scopes that the relay requests from the provider in addition to `openid`, separated by spaces. Some providers send groups only if one is requested, such as `groups`";
    OIDC_GROUPS_CLAIM = "TIDEGATE_OIDC_GROUPS_CLAIM", Some("groups"),
        "the claim with the groups of a user, in the ID token or the user info: a list of texts, or one text";
    OIDC_GROUPS = "TIDEGATE_OIDC_GROUPS", Some(""),
        "the groups that may sign in and their scopes, such as `platform=read+write+replay,ops=read+admin`. A user has the scopes of all of these groups to which the user belongs";
    DATABASE_CONNECTIONS = "TIDEGATE_DATABASE_CONNECTIONS", Some("16"),
        "the maximum number of connections of this relay to PostgreSQL (4 to 200)";
    DEDUPE_DAYS = "TIDEGATE_DEDUPE_DAYS", Some("3"),
        "the number of days (UTC) after the day on which an event was stored, during which a request to the same source with the same id and body is a copy (1 to 30)";
    BODY_RETENTION_DAYS = "TIDEGATE_BODY_RETENTION_DAYS", Some("30"),
        "the number of days for which event bodies are kept, so that events can be replayed (21 to 3650; longer than the queue keeps messages). Bodies of pending deliveries are kept longer";
    METADATA_RETENTION_DAYS = "TIDEGATE_METADATA_RETENTION_DAYS", Some("90"),
        "the number of days for which everything else is kept: events without bodies, deliveries, attempts, rejections and unreadable messages (21 to 3650, at least `TIDEGATE_BODY_RETENTION_DAYS`). A delivery that is still pending by then becomes dead";
    EGRESS_ALLOW = "TIDEGATE_EGRESS_ALLOW", Some(""),
        "private networks in which destinations are allowed, as CIDRs separated by commas, such as `10.0.0.0/8,127.0.0.1/32`";
    MAX_BODY_BYTES = "TIDEGATE_MAX_BODY_BYTES", Some("25000000"),
        "the maximum body size of a source, in bytes (1 to 25000000). If the edge's `MAX_BODY_BYTES` is lower, that applies";
    MAX_IN_FLIGHT = "TIDEGATE_MAX_IN_FLIGHT", Some("1024"),
        "the maximum number of attempts in flight, across all destinations (1 to 20000)";
    MAX_WAITING_BYTES = "TIDEGATE_MAX_WAITING_BYTES", Some("67108864"),
        "the memory for bodies of waiting deliveries, across all destinations, in bytes (0 to 17179869184). Bodies beyond it are read from the database when they are sent";
    MAX_IN_FLIGHT_BYTES = "TIDEGATE_MAX_IN_FLIGHT_BYTES", Some("134217728"),
        "the memory for those bodies of attempts in flight that are larger than 64 KiB, across all destinations, in bytes (0 to 17179869184). A body larger than this limit is sent on its own. No single destination can use all of it";
    SHUTDOWN_S = "TIDEGATE_SHUTDOWN_S", Some("25"),
        "the maximum time for which a shutdown waits for attempts in flight and for their outcomes to be stored, in seconds (0 to 300)";
    LOG = "TIDEGATE_LOG", Some("info"),
        "the log filter, in the syntax of Rust's `tracing`, such as `info,relay::deliver=debug`. Logs go to standard error";
    LOG_FORMAT = "TIDEGATE_LOG_FORMAT", Some("text"),
        "`text` or `json`";
}

/// The settings of a relay that can start.
#[derive(Clone)]
pub struct Config {
    pub database_url: String,
    pub database_connections: u32,
    pub master_keys: Vec<SealingKey>,
    /// Each of them is accepted as a root token.
    pub admin_tokens: Vec<Secret>,
    pub edge_url: Url,
    pub edge_admin_token: Secret,
    pub queue: QueueConfig,
    pub listen: SocketAddr,
    /// The URL under which browsers reach the relay.
    pub public_url: Option<Url>,
    /// Which pages of the dashboard are served.
    pub dashboard: Dashboard,
    /// The origins of web pages that may await jobs, as browsers write them.
    pub cors_origins: Vec<String>,
    /// How many requests a caller of the API may make in a minute.
    pub api_requests_per_minute: u32,
    /// The provider with which people sign in.
    pub oidc: Option<OidcConfig>,
    pub retention: Retention,
    pub egress_allow: Vec<IpNet>,
    pub max_body_bytes: u64,
    pub max_in_flight: usize,
    pub max_waiting_bytes: usize,
    pub max_in_flight_bytes: usize,
    pub shutdown: Duration,
    /// All settings as an operator may see them.
    pub shown: Vec<ShownSetting>,
}

/// Which pages of the dashboard are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dashboard {
    Off,
    On,
    /// Also the page of its style sheet.
    Design,
}

/// Which queues are pulled, and how.
#[derive(Clone)]
pub struct QueueConfig {
    pub api: Url,
    pub account_id: String,
    pub queue_ids: Vec<String>,
    pub token: Secret,
    pub idle: Duration,
}

/// How the relay logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    pub filter: String,
    pub json: bool,
}

/// A setting that is missing or wrong, and how to fix it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {problem}")]
pub struct Problem {
    pub name: &'static str,
    pub problem: String,
}

/// Reads all settings. `var` returns the value of an environment variable.
///
/// # Errors
/// Returns all problems, in the order of [`SETTINGS`].
pub fn read(var: impl Fn(&str) -> Option<String>) -> Result<Config, Vec<Problem>> {
    let mut reader = Reader { var: &var, problems: Vec::new() };
    let database_url = reader.parse(&DATABASE_URL, |text| {
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        match url.scheme() {
            "postgres" | "postgresql" => Ok(text.to_owned()),
            _ => Err("must begin with postgres://".to_owned()),
        }
    });
    let master_keys = reader.parse(&MASTER_KEY, sealing_keys);
    let admin_tokens = reader.parse(&ADMIN_TOKEN, root_tokens);
    let edge_url = reader.parse(&EDGE_URL, http_url);
    let edge_admin_token = reader.parse(&EDGE_ADMIN_TOKEN, |text| Ok(Secret::new(text)));
    let account_id = reader.parse(&QUEUE_ACCOUNT_ID, |text| Ok(text.to_owned()));
    let queue_ids = reader.parse(&QUEUE_IDS, queue_ids);
    let token = reader.parse(&QUEUE_TOKEN, |text| Ok(Secret::new(text)));
    let api = reader.parse(&QUEUE_API, http_url);
    let idle = reader.parse(&QUEUE_IDLE_MS, |text| within(text, 50, 60_000).map(Duration::from_millis));
    let listen = reader.parse(&LISTEN, |text| {
        text.parse().map_err(|_| "must be an IP address and port, such as 127.0.0.1:8400".to_owned())
    });
    let public_url = reader.parse(&PUBLIC_URL, public_url);
    let dashboard = reader.parse(&DASHBOARD, |text| match text {
        "on" => Ok(Dashboard::On),
        "off" => Ok(Dashboard::Off),
        "design" => Ok(Dashboard::Design),
        _ => Err("must be on, off or design".to_owned()),
    });
    let cors_origins = reader.parse(&CORS_ORIGINS, cors_origins);
    let api_requests_per_minute = reader.parse(&API_REQUESTS_PER_MINUTE, |text| within(text, 60, 10_000_000));
    let oidc = oidc::read(&mut reader, public_url.as_ref());
    let database_connections = reader.parse(&DATABASE_CONNECTIONS, |text| within(text, 4, 200));
    let dedupe_days = reader.parse(&DEDUPE_DAYS, |text| days(text, 1, 30));
    let body_days = reader.parse(&BODY_RETENTION_DAYS, |text| days(text, LEAST_RETENTION_DAYS, 3_650));
    let metadata_days = reader.parse(&METADATA_RETENTION_DAYS, |text| {
        let days = days(text, LEAST_RETENTION_DAYS, 3_650)?;
        match body_days {
            Some(body_days) if body_days > days => {
                Err(format!("must be at least {body_days}, the value of {}", BODY_RETENTION_DAYS.name))
            }
            Some(_) | None => Ok(days),
        }
    });
    let egress_allow = reader.parse(&EGRESS_ALLOW, |text| {
        list(text)
            .map(|cidr| cidr.parse().map_err(|_| format!("\"{cidr}\" is not a CIDR such as 10.0.0.0/8")))
            .collect::<Result<Vec<_>, _>>()
    });
    let max_body_bytes = reader.parse(&MAX_BODY_BYTES, |text| within(text, 1, 25_000_000));
    let max_in_flight = reader.parse(&MAX_IN_FLIGHT, |text| within(text, 1, 20_000));
    let max_waiting_bytes = reader.parse(&MAX_WAITING_BYTES, |text| within(text, 0, 1 << 34));
    let max_in_flight_bytes = reader.parse(&MAX_IN_FLIGHT_BYTES, |text| within(text, 0, 1 << 34));
    let shutdown = reader.parse(&SHUTDOWN_S, |text| within(text, 0, 300).map(Duration::from_secs));
    // `read_log` has applied both of them, or their defaults.
    reader.parse(&LOG, |text| EnvFilter::try_new(text).map_err(|error| format!("is not a log filter: {error}")));
    reader.parse(&LOG_FORMAT, |text| match text {
        "text" | "json" => Ok(()),
        _ => Err("must be text or json".to_owned()),
    });

    let config = (|| {
        Some(Config {
            database_url: database_url?,
            database_connections: u32::try_from(database_connections?).ok()?,
            master_keys: master_keys?,
            admin_tokens: admin_tokens?,
            edge_url: edge_url?,
            edge_admin_token: edge_admin_token?,
            queue: QueueConfig {
                api: api?,
                account_id: account_id?,
                queue_ids: queue_ids?,
                token: token?,
                idle: idle?,
            },
            listen: listen?,
            public_url: public_url?,
            dashboard: dashboard?,
            cors_origins: cors_origins?,
            api_requests_per_minute: u32::try_from(api_requests_per_minute?).ok()?,
            oidc: oidc?,
            retention: Retention { body_days: body_days?, metadata_days: metadata_days?, dedupe_days: dedupe_days? },
            egress_allow: egress_allow?,
            max_body_bytes: max_body_bytes?,
            max_in_flight: usize::try_from(max_in_flight?).ok()?,
            max_waiting_bytes: usize::try_from(max_waiting_bytes?).unwrap_or(usize::MAX),
            max_in_flight_bytes: usize::try_from(max_in_flight_bytes?).unwrap_or(usize::MAX),
            shutdown: shutdown?,
            shown: shown::settings(&var),
        })
    })();
    config.filter(|_| reader.problems.is_empty()).ok_or(reader.problems)
}

/// Reads only the database URL, which is all that `migrate` needs.
///
/// # Errors
/// Returns the problem with it.
pub fn read_database_url(var: impl Fn(&str) -> Option<String>) -> Result<String, Vec<Problem>> {
    let mut reader = Reader { var: &var, problems: Vec::new() };
    let url = reader.parse(&DATABASE_URL, |text| Ok(text.to_owned()));
    url.ok_or(reader.problems)
}

/// Reads the settings that are needed to open a source's secrets: the database URL and the master keys. `None` if one
/// of them is not set.
///
/// # Errors
/// Returns the problems with them.
pub fn read_vault(var: impl Fn(&str) -> Option<String>) -> Result<Option<(String, Vec<SealingKey>)>, Vec<Problem>> {
    let set = |setting: &Setting| var(setting.name).is_some_and(|text| !text.trim().is_empty());
    if !set(&DATABASE_URL) || !set(&MASTER_KEY) {
        return Ok(None);
    }
    let mut reader = Reader { var: &var, problems: Vec::new() };
    let url = reader.parse(&DATABASE_URL, |text| Ok(text.to_owned()));
    let keys = reader.parse(&MASTER_KEY, sealing_keys);
    url.zip(keys).map(Some).ok_or(reader.problems)
}

/// Reads how to log. Never fails, because other errors have to be logged: a format other than `json` counts as `text`,
/// and the caller replaces a filter that it cannot parse. [`read`] reports both.
pub fn read_log(var: impl Fn(&str) -> Option<String>) -> LogConfig {
    let filter = var(LOG.name).filter(|text| !text.trim().is_empty()).unwrap_or_else(|| "info".to_owned());
    LogConfig { filter, json: var(LOG_FORMAT.name).is_some_and(|text| text.trim() == "json") }
}

struct Reader<'a> {
    var: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn parse<T>(&mut self, setting: &Setting, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let given = (self.var)(setting.name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let parsed = match (given, setting.default) {
            (Some(text), _) => parse(&text),
            (None, Some(default)) => parse(default),
            (None, None) => Err(format!("is not set; set it to {}", setting.value())),
        };
        parsed.map_err(|problem| self.problems.push(Problem { name: setting.name, problem })).ok()
    }
}

fn sealing_keys(text: &str) -> Result<Vec<SealingKey>, String> {
    text.split(',').map(|key| SealingKey::parse(key.trim()).map_err(|error| error.to_string())).collect()
}

fn root_tokens(text: &str) -> Result<Vec<Secret>, String> {
    let token = |text: &str| {
        let is_long_enough = text.len() >= 16;
        is_long_enough.then(|| Secret::new(text)).ok_or_else(|| "must be at least 16 characters long".to_owned())
    };
    text.split(',').map(str::trim).map(token).collect()
}

/// Origins, each in the form in which browsers send it.
fn cors_origins(text: &str) -> Result<Vec<String>, String> {
    let origin = |text: &str| {
        let url = public_url(text)?;
        url.map(|url| url.origin().ascii_serialization()).ok_or_else(|| "must not be empty".to_owned())
    };
    list(text).map(|text| origin(text).map_err(|problem| format!("\"{text}\" {problem}"))).collect()
}

/// Ids of queues: Cloudflare's are 32 hexadecimal digits.
fn queue_ids(text: &str) -> Result<Vec<String>, String> {
    let is_id = |id: &str| id.len() == 32 && id.bytes().all(|digit| digit.is_ascii_hexdigit());
    let ids: Vec<String> = list(text).map(str::to_owned).collect();
    match ids.iter().find(|id| !is_id(id)) {
        Some(other) => Err(format!(
            "\"{other}\" is not the id of a queue; ids have 32 hexadecimal digits, and `npx wrangler queues list` shows them"
        )),
        None if ids.is_empty() => Err("must name at least one queue".to_owned()),
        None => Ok(ids),
    }
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

fn within(text: &str, least: u64, most: u64) -> Result<u64, String> {
    match text.parse::<u64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("must be a whole number from {least} to {most}")),
    }
}

fn days(text: &str, least: u64, most: u64) -> Result<u16, String> {
    within(text, least, most).and_then(|days| u16::try_from(days).map_err(|error| error.to_string()))
}

fn http_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if matches!(url.scheme(), "http" | "https") && url.has_host() {
        Ok(url)
    } else {
        Err("must be a URL such as https://hooks.example.com".to_owned())
    }
}

/// The URL under which browsers reach the relay; `None` if the text is empty.
fn public_url(text: &str) -> Result<Option<Url>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let url = http_url(text)?;
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    if is_bare {
        Ok(Some(url))
    } else {
        Err("must be a scheme and a host, such as https://tidegate.example.com".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn good(name: &str) -> Option<String> {
        let value = match name {
            "DATABASE_URL" => "postgres://u@localhost/t",
            "TIDEGATE_MASTER_KEY" => "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
            "TIDEGATE_ADMIN_TOKEN" => "sixteen characters",
            "TIDEGATE_EDGE_URL" => "https://hooks.example.com",
            "TIDEGATE_EDGE_ADMIN_TOKEN" => "edge",
            "TIDEGATE_QUEUE_ACCOUNT_ID" => "account",
            "TIDEGATE_QUEUE_IDS" => "0123456789abcdef0123456789abcdef, fedcba9876543210fedcba9876543210",
            "TIDEGATE_QUEUE_TOKEN" => "token",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[test]
    fn the_table_of_settings_in_the_readme_is_up_to_date() {
        let readme = include_str!("../../README.md");
        let table = readme.split("<!-- settings -->").nth(1).and_then(|rest| rest.split("<!-- /settings -->").next());
        let mut wanted = "\n| variable | default | meaning |\n|---|---|---|\n".to_owned();
        for setting in SETTINGS {
            let default = match setting.default {
                None => "required".to_owned(),
                Some("") => "none".to_owned(),
                Some(default) => format!("`{default}`"),
            };
            wanted.push_str(&format!("| `{}` | {default} | {} |\n", setting.name, setting.meaning));
        }
        assert_eq!(table, Some(wanted.as_str()), "README.md should contain:\n{wanted}");
    }

    #[test]
    fn the_settings_file_in_the_readme_contains_exactly_the_required_settings() {
        let readme = include_str!("../../README.md");
        let file = readme
            .split("<<EOF\n")
            .nth(1)
            .and_then(|rest| rest.split("\nEOF\n").next())
            .expect("README.md contains the file");
        let named: Vec<&str> = file.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        let required: Vec<&str> = SETTINGS.iter().filter(|setting| setting.default.is_none()).map(|s| s.name).collect();
        assert_eq!(named, required);
    }

    #[test]
    fn the_required_settings_are_enough() {
        let config = read(good).map_err(|problems| format!("{problems:?}")).expect("reads");
        assert_eq!(config.queue.queue_ids, ["0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"]);
        assert_eq!(config.listen.port(), 8400);
        assert!(config.egress_allow.is_empty());
    }

    #[test]
    fn bodies_outlive_the_queue_and_metadata_outlives_bodies() {
        let read_with = |body: &'static str, metadata: &'static str| {
            read(|name| match name {
                "TIDEGATE_BODY_RETENTION_DAYS" => Some(body.to_owned()),
                "TIDEGATE_METADATA_RETENTION_DAYS" => Some(metadata.to_owned()),
                other => good(other),
            })
        };
        let kept = read_with("45", "45").map_err(|problems| format!("{problems:?}")).expect("reads").retention;
        assert_eq!(kept, Retention { body_days: 45, metadata_days: 45, dedupe_days: 3 });
        for (body, metadata, wanted) in [
            ("20", "90", "TIDEGATE_BODY_RETENTION_DAYS: must be a whole number from 21 to 3650"),
            ("30", "forever", "TIDEGATE_METADATA_RETENTION_DAYS: must be a whole number from 21 to 3650"),
            (
                "60",
                "30",
                "TIDEGATE_METADATA_RETENTION_DAYS: must be at least 60, the value of \
                 TIDEGATE_BODY_RETENTION_DAYS",
            ),
        ] {
            let problems: Vec<String> =
                read_with(body, metadata).err().expect("problems").iter().map(ToString::to_string).collect();
            assert_eq!(problems, [wanted]);
        }
    }

    #[test]
    fn two_root_tokens_are_accepted_and_each_is_long_enough() {
        let read_with = |tokens: &'static str| {
            read(|name| if name == "TIDEGATE_ADMIN_TOKEN" { Some(tokens.to_owned()) } else { good(name) })
        };
        let config = read_with("the new token of 2026, the old token of 2025").map_err(|_| ()).expect("reads");
        let tokens: Vec<&str> = config.admin_tokens.iter().map(Secret::reveal).collect();
        assert_eq!(tokens, ["the new token of 2026", "the old token of 2025"]);
        for tokens in ["short", "the new token of 2026,short", "the new token of 2026,"] {
            assert_eq!(read_with(tokens).err().expect("a problem")[0].name, "TIDEGATE_ADMIN_TOKEN", "{tokens}");
        }
    }

    #[test]
    fn secrets_can_be_opened_if_both_settings_are_set() {
        let (url, keys) = read_vault(good).ok().flatten().expect("both are set");
        assert_eq!((url.as_str(), keys.len()), ("postgres://u@localhost/t", 1));
        for missing in ["DATABASE_URL", "TIDEGATE_MASTER_KEY"] {
            let read = read_vault(|name| good(name).filter(|_| name != missing));
            assert!(matches!(read, Ok(None)), "{missing}");
        }
        let problems = read_vault(|name| good(name).map(|text| text.replace("AAEC", ""))).expect_err("a problem");
        assert_eq!(problems[0].name, "TIDEGATE_MASTER_KEY");
    }

    #[test]
    fn all_problems_are_reported_at_once_and_in_order() {
        let problems = read(|name| match name {
            "TIDEGATE_ADMIN_TOKEN" => Some("short".to_owned()),
            "TIDEGATE_EGRESS_ALLOW" => Some("10.0.0.0/8,nowhere".to_owned()),
            "TIDEGATE_LISTEN" => Some("8400".to_owned()),
            "TIDEGATE_QUEUE_TOKEN" => None,
            "TIDEGATE_QUEUE_IDS" => Some("tidegate-events".to_owned()),
            "TIDEGATE_LOG" => Some("info,relay=loud".to_owned()),
            "TIDEGATE_LOG_FORMAT" => Some("JSON".to_owned()),
            other => good(other),
        });
        let names: Vec<_> = problems.err().expect("problems").iter().map(|problem| problem.name).collect();
        assert_eq!(
            names,
            [
                "TIDEGATE_ADMIN_TOKEN",
                "TIDEGATE_QUEUE_IDS",
                "TIDEGATE_QUEUE_TOKEN",
                "TIDEGATE_LISTEN",
                "TIDEGATE_EGRESS_ALLOW",
                "TIDEGATE_LOG",
                "TIDEGATE_LOG_FORMAT",
            ]
        );
    }

    #[test]
    fn the_public_url_has_a_host_and_no_path() {
        let url = |text| public_url(text).map(|url| url.map(String::from));
        assert_eq!(url(""), Ok(None));
        assert_eq!(url("https://Tidegate.example.com"), Ok(Some("https://tidegate.example.com/".to_owned())));
        assert_eq!(url("http://localhost:8400/"), Ok(Some("http://localhost:8400/".to_owned())));
        for wrong in
            ["https://a.example/app", "https://a.example/?b", "https://u@a.example", "ftp://a.example", "a.example"]
        {
            assert!(url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn origins_of_pages_have_a_scheme_and_a_host_and_no_path() {
        assert_eq!(cors_origins(""), Ok(Vec::new()));
        let origins = cors_origins("https://App.example.com, http://localhost:3000/");
        assert_eq!(origins, Ok(["https://app.example.com", "http://localhost:3000"].map(str::to_owned).to_vec()));
        for wrong in ["*", "https://a.example/app", "a.example", "null"] {
            assert!(cors_origins(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn at_least_one_queue_is_named() {
        let problems = read(|name| if name == "TIDEGATE_QUEUE_IDS" { Some(" , ".to_owned()) } else { good(name) });
        let problems = problems.err().expect("a problem");
        assert_eq!(problems[0].to_string(), "TIDEGATE_QUEUE_IDS: must name at least one queue");
    }
}
