//! The command line of `cargo dev`.

use std::net::{Ipv4Addr, TcpListener};

use crate::Result;

/// What `cargo dev -- --help` shows.
pub const HELP: &str = "\
cargo dev: all of Tidegate on this machine, until Ctrl-C

usage: cargo dev [-- OPTIONS]

  --no-demo          start everything, but do not create or send anything
  --relay-port PORT  the port of the relay (default: 8400)
  --edge-port PORT   the port of the edge (default: 8787)
  --help             this text";

/// The parsed command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    pub no_demo: bool,
    pub relay_port: u16,
    pub edge_port: u16,
    pub help: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { no_demo: false, relay_port: 8400, edge_port: 8787, help: false }
    }
}

impl Options {
    /// Parses the arguments after the program's name.
    ///
    /// # Errors
    /// Returns an error if one is unknown or has no valid value.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut options = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut port = || {
                let value = arguments.next().and_then(|text| text.parse().ok()).filter(|port| *port != 0);
                value.ok_or_else(|| format!("{argument} needs a port: a number from 1 to 65535"))
            };
            match argument.as_str() {
                "--no-demo" => options.no_demo = true,
                "--relay-port" => options.relay_port = port()?,
                "--edge-port" => options.edge_port = port()?,
                "--help" | "-h" => options.help = true,
                other => return Err(format!("unknown option {other}\n\n{HELP}")),
            }
        }
        Ok(options)
    }

    /// Checks that both ports are free.
    ///
    /// # Errors
    /// Returns an error that names the one that is not free, and says what to do.
    pub fn check_ports(&self) -> Result<()> {
        check_port(self.relay_port, "relay", "--relay-port")?;
        check_port(self.edge_port, "edge", "--edge-port")
    }
}

fn check_port(port: u16, who: &str, option: &str) -> Result<()> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!(
            "port {port}, which the {who} needs, is not available ({error}); stop what uses it, or choose another: \
             cargo dev -- {option} {}",
            port.checked_add(10).unwrap_or(port - 10)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_parsed_and_unknown_ones_are_refused() {
        let options = parse("--no-demo --relay-port 9000 --edge-port 9001").expect("reads");
        assert_eq!(options, Options { no_demo: true, relay_port: 9_000, edge_port: 9_001, help: false });
        assert_eq!(parse("").expect("reads"), Options::default());
        for wrong in ["--demo", "--relay-port", "--relay-port 0", "--edge-port 70000"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_error_for_a_port_in_use_says_what_to_do() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("binds");
        let edge_port = taken.local_addr().expect("bound").port();
        let options = Options { relay_port: free_port(), edge_port, ..Options::default() };
        let error = options.check_ports().expect_err("taken");
        assert!(error.contains(&edge_port.to_string()) && error.contains("cargo dev -- --edge-port"), "{error}");
    }

    fn free_port() -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("binds");
        listener.local_addr().expect("bound").port()
    }
}
