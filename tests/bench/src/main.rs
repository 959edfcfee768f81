//! `cargo bench-gateway <case>…`: measures how fast Tidegate is on this machine, against its requirements and aims.
//! `all` runs every case. The report, in Markdown, goes to standard output, and progress goes to standard error.

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::Instant;

use bench::{machine, options};
use harness::tools::say;

fn main() -> ExitCode {
    let (cases, options) = match options::read(std::env::args().skip(1)) {
        Ok(wanted) => wanted,
        Err(answer) => {
            // If the terminal is gone, the exit code still reports it.
            let _ = answer.print();
            return if answer.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("cannot make a runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    print(&format!(
        "# Measured by `cargo bench-gateway`\n\n- machine: {}\n- method: everything runs on this machine and shares its \
         cores: load generator, queue, PostgreSQL, relays, receivers. The load is open: latency counts from the time at \
         which an event was meant to be sent, whether or not the one before had come through. Ratios hold better than \
         absolute figures.\n{}",
        machine::describe(),
        if options.quick { "- **a quick run: it shows whether everything works, not how fast it is**\n" } else { "" },
    ));
    let mut good = true;
    for case in cases {
        say(&format!("{}: {}", case.name, case.what));
        let begun = Instant::now();
        // A failing case must not prevent the others from being measured.
        let report = std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on((case.run)(options.clone()))));
        match report {
            Ok(Ok(report)) => {
                good &= report.holds();
                print(&report.markdown());
            }
            Ok(Err(error)) => {
                good = false;
                print(&format!("## {}\n\n- not measured: {error}\n", case.name));
            }
            Err(_) => {
                good = false;
                print(&format!("## {}\n\n- not measured: it panicked, see standard error\n", case.name));
            }
        }
        say(&format!("{} took {} s", case.name, begun.elapsed().as_secs()));
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::print_stdout, reason = "the report, which may be redirected into a file")]
fn print(text: &str) {
    println!("{text}");
}
