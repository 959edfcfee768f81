//! `tidegate doctor`: checks everything the relay depends on, and explains how to fix each problem it finds.

pub(crate) mod check;

use std::time::SystemTime;

use egress::{EgressPolicy, Ports};
use shared::seal::SealingKey;
use store::Pool;
use store::sealed::Table;
use url::Url;

use self::check::{Check, Sealed};
use crate::config::Config;
use crate::configuration::Configuration;
use crate::edge::Edge;
use crate::oidc::Oidc;
use crate::pull::api::Queue;
use crate::pull::queue_settings;
use crate::{descriptors, secrets, terminal};

/// Runs all checks and prints one line per finding.
///
/// # Errors
/// Returns an error with the number of failed checks.
pub async fn doctor(config: &Config) -> Result<(), String> {
    let mut report = Report::default();
    report.line("settings", &Check::Ok("complete".to_owned()));
    report.line("files", &check::files(descriptors::raise(), config));
    match Pool::new(&config.database_url, 4) {
        Err(error) => report.line("database", &Check::Fail(format!("cannot connect with DATABASE_URL: {error}"))),
        Ok(pool) => database(&pool, config, &mut report).await,
    }
    let edge = match Edge::new(&config.edge_url, config.edge_admin_token.reveal()) {
        Err(error) => Check::Fail(error.to_string()),
        Ok(edge) => match edge.status().await {
            Err(error) => Check::Fail(error),
            Ok(status) => check::edge(config.edge_url.as_str(), &status),
        },
    };
    report.line("edge", &edge);
    match Queue::all(&config.queue) {
        Err(error) => report.line("queue", &Check::Fail(error.to_string())),
        Ok(queues) => self::queues(&queues, &mut report).await,
    }
    if let Some(settings) = &config.oidc {
        let provider = async { Oidc::new(settings)?.check().await };
        let found = provider.await.map_err(|error| {
            format!("{error}; check TIDEGATE_OIDC_ISSUER, which has to be written exactly as the provider writes it")
        });
        report.line("sign-in", &Check::of(found));
    }
    match report.failed {
        0 => Ok(()),
        1 => Err("1 check failed; see the line marked FAIL".to_owned()),
        count => Err(format!("{count} checks failed; see the lines marked FAIL")),
    }
}

#[derive(Default)]
struct Report {
    failed: usize,
}

impl Report {
    fn line(&mut self, what: &str, check: &Check) {
        let (mark, text) = match check {
            Check::Ok(text) => ("ok  ", text),
            Check::Warn(text) => ("WARN", text),
            Check::Fail(text) => {
                self.failed += 1;
                ("FAIL", text)
            }
        };
        terminal::line(&format!("{mark}  {what:<10} {text}"));
    }
}

async fn database(pool: &Pool, config: &Config, report: &mut Report) {
    let keys = config.master_keys.as_slice();
    let health = match store::health::look(pool).await {
        Ok(health) => health,
        Err(error) => {
            let what =
                format!("cannot reach the database: {error}; check DATABASE_URL, and that PostgreSQL is running");
            return report.line("database", &Check::Fail(what));
        }
    };
    report.line("database", &check::database(&health));
    let wanted = store::newest_migration();
    report.line("migrations", &check::migrations(health.migration, wanted));
    report.line("clock", &check::clock(SystemTime::now(), health.now.into()));
    let standbys = store::health::standbys(pool).await.map(|standbys| check::standbys(&standbys));
    report
        .line("standby", &standbys.unwrap_or_else(|error| Check::Warn(format!("cannot check for standbys: {error}"))));
    // Only then do the tables have all that this relay expects.
    if health.migration >= Some(wanted) {
        let sealed =
            async { Ok((sealed(pool, keys, Table::Sources).await?, sealed(pool, keys, Table::Destinations).await?)) };
        let sealed: store::Result<(Sealed, Sealed)> = sealed.await;
        let check = match sealed {
            Ok((sources, destinations)) => check::secrets(keys.len(), sources, destinations),
            Err(error) => Check::Fail(format!("cannot read the encrypted secrets: {error}")),
        };
        report.line("secrets", &check);
        let policy = EgressPolicy { allow: config.egress_allow.clone(), ports: Ports::default() };
        match Configuration::load(pool.clone(), keys.to_vec()).await {
            Ok(configuration) => {
                let refused = |url: &Url| policy.check_url(url).err().map(|error| error.to_string());
                report.line("routing", &check::configuration(&configuration.current(), refused));
            }
            Err(error) => {
                report.line("routing", &Check::Fail(format!("cannot read the destinations and routes: {error}")))
            }
        }
    }
}

/// How many rows with sealed values are read at a time.
const SEALED_AT_ONCE: i64 = 1_000;

/// The sealed rows of a table: how many there are, and which of them need a key that is missing or an older one.
async fn sealed(pool: &Pool, keys: &[SealingKey], table: Table) -> store::Result<Sealed> {
    let (mut sealed, mut after) = (Sealed::default(), None);
    loop {
        let page = store::sealed::page(pool, table, after, SEALED_AT_ONCE).await?;
        let Some(last) = page.last() else { return Ok(sealed) };
        after = Some(last.id);
        sealed.all += page.len();
        sealed.closed += page.iter().filter(|row| !secrets::opens_row(keys, table, row)).count();
        let values = page.iter().flat_map(|row| [Some(&row.secrets), row.more.as_ref()]).flatten();
        let is_first = |sealed: &String| keys.first().is_some_and(|key| secrets::is_sealed_by(key, sealed));
        sealed.older += values.filter(|sealed| !is_first(sealed)).count();
    }
}

async fn queues(queues: &[Queue], report: &mut Report) {
    let mut settings = Vec::new();
    for queue in queues {
        let looked = queue.look().await;
        let is_reachable = looked.is_ok();
        let named = looked.map(|backlog| format!("{}: {backlog}", queue.id())).map_err(|error| error.to_string());
        report.line("queue", &Check::of(named));
        if is_reachable {
            match queue.settings().await {
                Ok(found) => settings.push(found),
                Err(error) => {
                    let what = format!("{}: cannot read the settings of the queue: {error}", queue.id());
                    report.line("queue", &Check::Fail(what));
                }
            }
        }
    }
    // The queues refer to one another: if one could not be read, a dead-letter queue could be taken for one that is not
    // pulled.
    if settings.len() < queues.len() {
        return;
    }
    let findings = queue_settings::findings(&settings);
    for finding in &findings {
        report.line("queue", &Check::Fail(finding.to_string()));
    }
    if findings.is_empty() {
        let what = "all queues keep messages for 14 days, and the dead-letter queue is pulled too";
        report.line("queue", &Check::Ok(what.to_owned()));
    }
}
