//! A database per test.

use std::net::SocketAddr;
use std::str::FromStr as _;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use tokio::sync::OnceCell;

use super::Server;
use crate::error::{Doing as _, Result};
use crate::{place, relay, tools};

/// A database that is dropped with this value.
#[derive(Debug)]
pub struct Database {
    url: String,
    name: String,
    /// The URL of the database on which `create database` and `drop database` run.
    admin_url: String,
}

/// Serialises the creation of the template across processes that share a server.
const TEMPLATE_LOCK: i64 = 0x7469_6465_6761_7465;

impl Database {
    /// Creates a database with the relay's migrations, on the server of `DATABASE_URL`, or else on the server of this
    /// process.
    ///
    /// # Errors
    /// Returns an error if the database or something that it needs cannot be created.
    pub async fn create() -> Result<Self> {
        Self::create_at(&shared_server().await?).await
    }

    /// Like [`Database::create`], on a separate server.
    ///
    /// # Errors
    /// Returns an error if the database or something that it needs cannot be created.
    pub async fn create_on(server: &Server) -> Result<Self> {
        Self::create_at(&server.url("postgres")).await
    }

    /// Creates a database without tables, on the server of [`Database::create`].
    ///
    /// # Errors
    /// Returns an error if the database or something that it needs cannot be created.
    pub async fn create_empty() -> Result<Self> {
        Self::create_from(&shared_server().await?, "template0").await
    }

    /// Like [`Database::create_empty`], on a separate server.
    ///
    /// # Errors
    /// Returns an error if the database cannot be created.
    pub async fn create_empty_on(server: &Server) -> Result<Self> {
        Self::create_from(&server.url("postgres"), "template0").await
    }

    /// Returns the URL of a persistent database, which is created without tables if it does not exist.
    ///
    /// # Errors
    /// Returns an error if the server cannot be reached.
    pub async fn ensure(server: &Server, name: &str) -> Result<String> {
        let mut connection = connect(&server.url("postgres")).await?;
        let there: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
            .bind(name)
            .fetch_one(&mut connection)
            .await
            .doing(|| "cannot look for a database".to_owned())?;
        if !there {
            execute(&server.url("postgres"), &format!("create database {name}")).await?;
        }
        Ok(server.url(name))
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Opens a connection to the database.
    ///
    /// # Errors
    /// Returns an error if the server cannot be reached.
    pub async fn connect(&self) -> Result<PgConnection> {
        connect(&self.url).await
    }

    /// Runs statements on a connection of their own. Returns the number of rows that they changed.
    ///
    /// # Panics
    /// Panics if one of them fails.
    pub async fn run(&self, statements: &str) -> u64 {
        let mut connection = self.connect().await.unwrap_or_else(|error| panic!("{error}"));
        let done = sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut connection).await;
        done.unwrap_or_else(|error| panic!("{statements}: {error}")).rows_affected()
    }

    /// The server's address.
    ///
    /// # Errors
    /// Returns an error if the URL names none.
    pub fn address(&self) -> Result<SocketAddr> {
        let options = PgConnectOptions::from_str(&self.url).doing(|| "cannot read the URL".to_owned())?;
        let address = format!("{}:{}", options.get_host(), options.get_port());
        address.parse().doing(|| format!("{address} is no address"))
    }

    /// Returns its URL with another address, such as that of a proxy.
    ///
    /// # Errors
    /// Returns an error if the URL cannot be read.
    pub fn url_at(&self, address: SocketAddr) -> Result<String> {
        let options = PgConnectOptions::from_str(&self.url).doing(|| "cannot read the URL".to_owned())?;
        let options = options.host(&address.ip().to_string()).port(address.port());
        Ok(options.to_url_lossy().to_string())
    }

    /// Saves the present state for [`Database::restore`]. Closes every connection.
    ///
    /// # Errors
    /// Returns an error if a statement fails.
    pub async fn save(&self) -> Result<Self> {
        let name = format!("{}_saved", self.name);
        self.cut_off().await?;
        execute(&self.admin_url, &format!("create database {name} template {}", self.name)).await?;
        self.let_in().await?;
        Ok(Self { url: url_of(&self.admin_url, &name)?, name, admin_url: self.admin_url.clone() })
    }

    /// Restores a saved state under running relays, as after a restore of a backup or a failover to a standby that
    /// lagged.
    ///
    /// # Errors
    /// Returns an error if a statement fails.
    pub async fn restore(&self, saved: Self) -> Result<()> {
        self.cut_off().await?;
        execute(&self.admin_url, &format!("drop database {}", self.name)).await?;
        execute(&self.admin_url, &format!("alter database {} rename to {}", saved.name, self.name)).await
    }

    /// Refuses new connections and closes the open ones.
    async fn cut_off(&self) -> Result<()> {
        execute(&self.admin_url, &format!("alter database {} allow_connections false", self.name)).await?;
        let name = &self.name;
        let end = format!("select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = '{name}'");
        execute(&self.admin_url, &end).await
    }

    async fn let_in(&self) -> Result<()> {
        execute(&self.admin_url, &format!("alter database {} allow_connections true", self.name)).await
    }

    async fn create_at(admin_url: &str) -> Result<Self> {
        let template = template(admin_url).await?;
        Self::create_from(admin_url, &template).await
    }

    async fn create_from(admin_url: &str, template: &str) -> Result<Self> {
        let name = format!("test_{}", crate::random::text());
        execute(admin_url, &format!("create database {name} template {template}")).await?;
        Ok(Self { url: url_of(admin_url, &name)?, name, admin_url: admin_url.to_owned() })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (admin_url, name) = (self.admin_url.clone(), self.name.clone());
        // A separate runtime: this may be dropped outside of a runtime, or inside one that is about to end.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let drop = async { execute(&admin_url, &format!("drop database if exists {name} with (force)")).await };
            runtime.map(|runtime| runtime.block_on(drop))
        });
        // If the server is gone, so is the database.
        let _ = dropped.join();
    }
}

/// The URL of the server that the tests of this process share. The server is never dropped: its watchdog stops it and
/// removes its data when this process ends, however it ends.
#[expect(clippy::disallowed_methods, reason = "DATABASE_URL selects the server of the tests")]
async fn shared_server() -> Result<String> {
    static SERVER: OnceCell<Result<String>> = OnceCell::const_new();
    SERVER
        .get_or_init(|| async {
            match std::env::var("DATABASE_URL") {
                Ok(url) if !url.is_empty() => Ok(url),
                Ok(_) | Err(_) => Ok(Box::leak(Box::new(Server::start_private().await?)).url("postgres")),
            }
        })
        .await
        .clone()
}

/// The name of the template with the repository's present migrations, which is created if it does not exist.
async fn template(admin_url: &str) -> Result<String> {
    let migrations = tools::hash_of(&[&place::repository().join("relay/store/migrations")])?;
    let name = format!("tidegate_template_{}", &migrations[..16]);
    let mut connection = connect(admin_url).await?;
    let failed = || "cannot make the template database".to_owned();
    sqlx::query("select pg_advisory_lock($1)").bind(TEMPLATE_LOCK).execute(&mut connection).await.doing(failed)?;
    let there: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(&name)
        .fetch_one(&mut connection)
        .await
        .doing(failed)?;
    if !there {
        let unfinished = format!("{name}_unfinished");
        execute(admin_url, &format!("drop database if exists {unfinished} with (force)")).await?;
        execute(admin_url, &format!("create database {unfinished}")).await?;
        relay::migrate(&url_of(admin_url, &unfinished)?).await?;
        execute(admin_url, &format!("alter database {unfinished} rename to {name}")).await?;
    }
    // Closing the connection releases the lock.
    connection.close().await.doing(failed)?;
    Ok(name)
}

async fn execute(url: &str, statement: &str) -> Result<()> {
    let mut connection = connect(url).await?;
    let done = sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await;
    let _ = connection.close().await;
    done.map(drop).doing(|| format!("cannot {statement}"))
}

async fn connect(url: &str) -> Result<PgConnection> {
    PgConnection::connect(url).await.doing(|| "cannot connect to PostgreSQL; is DATABASE_URL right".to_owned())
}

fn url_of(admin_url: &str, database: &str) -> Result<String> {
    let options = PgConnectOptions::from_str(admin_url).doing(|| "DATABASE_URL is not a PostgreSQL URL".to_owned())?;
    Ok(options.database(database).to_url_lossy().to_string())
}
