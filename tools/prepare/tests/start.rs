//! Tests of `cargo dev` before it builds anything.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Output};

fn start(arguments: &[&str]) -> Output {
    // With an empty path, so that every attempt to build, install or run anything fails.
    let mut command = Command::new(env!("CARGO_BIN_EXE_start"));
    command.args(arguments).env_clear().env("PATH", "/none").output().expect("runs")
}

#[test]
fn the_help_is_shown_without_building_anything() {
    let output = start(&["--help"]);
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("--no-demo"), "{output:?}");
}

#[test]
fn predictable_failures_are_reported_at_once_with_what_to_do() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("binds");
    let port = taken.local_addr().expect("bound").port().to_string();
    let free =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("binds").local_addr().expect("bound").port().to_string();
    let ports = ["--relay-port", &free, "--edge-port", &free];
    for (arguments, expected) in [
        (&["--demo"][..], "unknown option --demo"),
        (
            &["--relay-port", &free, "--edge-port", &port],
            "stop what uses it, or choose another: cargo dev -- --edge-port",
        ),
        (&ports, "there is no `node` in the path; install Node 20.3 or newer"),
    ] {
        let output = start(arguments);
        assert!(!output.status.success(), "{arguments:?}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(expected), "{arguments:?}: {output:?}");
    }
}
