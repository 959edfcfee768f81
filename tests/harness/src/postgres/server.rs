//! An embedded server: it can be created, started, stopped and restarted on its port.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::program::Programs;
use super::user::User;
use crate::error::{Doing as _, Error, Result};
use crate::process::{Process, Signal};
use crate::wait::try_until;
use crate::{place, tools};

/// The maximum time for a start or a stop of the server. It includes recovery after an immediate shutdown.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// An embedded PostgreSQL on 127.0.0.1 with its own data folder.
#[derive(Debug)]
pub struct Server {
    programs: Programs,
    user: User,
    data: PathBuf,
    port: u16,
    process: Option<Process>,
    keep: Keep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    Data,
    Nothing,
}

/// How a server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Open transactions are rolled back, connections are closed, a checkpoint is written.
    Fast,
    /// Like a crash: the next start recovers from the write-ahead log.
    Immediate,
}

impl Server {
    /// Starts a separate server with an empty data folder, which is removed with it.
    ///
    /// # Errors
    /// Returns an error if the server is not installed or does not start.
    pub async fn start_private() -> Result<Self> {
        let (programs, user) = programs().await?;
        let folder = place::temporary("postgres")?;
        let mut server =
            Self { programs, user, data: folder.join("data"), port: 0, process: None, keep: Keep::Nothing };
        server.initialise()?;
        server.start_on_free_port().await?;
        Ok(server)
    }

    /// Starts a server on `data`. The folder is created if it does not exist, and is kept.
    ///
    /// # Errors
    /// Returns an error if the server is not installed or does not start, for example because another process uses the
    /// folder.
    pub async fn start_persistent(data: &Path) -> Result<Self> {
        let (programs, user) = programs().await?;
        let data = persistent_folder(data, user)?;
        let mut server = Self { programs, user, data, port: 0, process: None, keep: Keep::Data };
        if !server.data.join("PG_VERSION").is_file() {
            tools::say("making a PostgreSQL database cluster, once");
            server.initialise()?;
        }
        server.start_on_free_port().await?;
        Ok(server)
    }

    /// The port, which is the same after a restart.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of the postmaster, whose children are the server's other processes; `None` before the first
    /// start.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// The URL of one of its databases.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Stops the server; nothing answers on its port until [`Server::start`].
    ///
    /// # Errors
    /// Returns an error if it had to be killed.
    pub async fn stop(&mut self, how: Shutdown) -> Result<()> {
        let signal = match how {
            Shutdown::Fast => Signal::Int,
            Shutdown::Immediate => Signal::Quit,
        };
        match self.process.as_mut() {
            Some(process) => process.end(signal, START_TIMEOUT).await.map(drop),
            None => Ok(()),
        }
    }

    /// Starts it on its port and waits until it accepts connections.
    ///
    /// # Errors
    /// Returns an error with the end of the log if it does not start.
    pub async fn start(&mut self) -> Result<()> {
        self.stop(Shutdown::Fast).await?;
        let mut command = self.programs.command("postgres", self.user);
        command.arg("-D").arg(&self.data).args(["-p", &self.port.to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=on",
            "synchronous_commit=on",
            "max_connections=200",
            "timezone=UTC",
        ] {
            command.args(["-c", setting]);
        }
        let folder = match self.keep {
            Keep::Data => None,
            Keep::Nothing => self.data.parent(),
        };
        self.process = Some(Process::start_with_folder("postgres", &mut command, Signal::Int, folder)?);
        let url = self.url("postgres");
        let Some(process) = self.process.as_mut() else { return Ok(()) };
        let up = try_until("a connection", START_TIMEOUT, async || {
            if let Some(status) = process.ended() {
                return Ok(Err(format!("ended ({status})")));
            }
            match PgConnection::connect(&url).await {
                Ok(connection) => {
                    let _ = connection.close().await;
                    Ok(Ok(()))
                }
                Err(error) => Err(error.to_string()),
            }
        });
        let failure = match up.await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(ended)) => ended,
            Err(error) => format!("takes no connections: {error}"),
        };
        Err(Error::new(format!("PostgreSQL {failure}; its log:\n{}", process.tail(20))))
    }

    fn initialise(&self) -> Result<()> {
        std::fs::create_dir_all(&self.data).doing(|| format!("cannot create {}", self.data.display()))?;
        self.user.own(&self.data)?;
        if !self.user.reaches(&self.data) {
            return Err(Error::new(format!(
                "the user nobody, who has to run PostgreSQL in place of root, cannot enter {}; set TMPDIR to a folder \
                 that it can enter, run this as another user than root, or set DATABASE_URL",
                self.data.display()
            )));
        }
        let mut command = self.programs.command("initdb", self.user);
        command.arg("-D").arg(&self.data);
        command.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]);
        let output = command.output().doing(|| "cannot run initdb".to_owned())?;
        if output.status.success() {
            return Ok(());
        }
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(Error::new(format!("initdb failed in {}: {errors}", self.data.display())))
    }

    /// Tries up to three ports, because another process can take a port between the search and the start.
    async fn start_on_free_port(&mut self) -> Result<()> {
        let mut last = Error::new("no free port was found");
        for _ in 0..3 {
            self.port = tools::free_port()?;
            match self.start().await {
                Ok(()) => return Ok(()),
                Err(error) if error.to_string().contains("Address already in use") => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.take());
        if self.keep == Keep::Nothing
            && let Some(folder) = self.data.parent()
        {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

async fn programs() -> Result<(Programs, User)> {
    tools::blocking(|| {
        let user = User::for_server()?;
        Ok((Programs::ready(user)?, user))
    })
    .await
}

/// Returns `wanted`, or, if the server's user cannot enter it, a folder in the temporary folder whose name is derived
/// from `wanted`.
fn persistent_folder(wanted: &Path, user: User) -> Result<PathBuf> {
    std::fs::create_dir_all(wanted).doing(|| format!("cannot create {}", wanted.display()))?;
    user.own(wanted)?;
    if user.reaches(wanted) {
        return Ok(wanted.to_path_buf());
    }
    let folder = std::env::temp_dir().join(format!("tidegate-postgres-{}", tools::short_hash(wanted)));
    std::fs::create_dir_all(&folder).doing(|| format!("cannot create {}", folder.display()))?;
    user.own(&folder)?;
    Ok(folder)
}
