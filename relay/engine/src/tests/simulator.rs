//! The engine's decisions against a model of its surroundings: two replicas, their leases, the tables, and destinations
//! that fail in every possible way. One seed drives the whole run.
//!
//! A failing seed is printed with the step; `SEED=<number>` runs that seed alone. `SEEDS=<number>` sets the number of
//! seeds.

use std::collections::{BTreeMap, BTreeSet};

use model::poison::Poison;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use shared::id::RouteId;

use super::*;

mod checks;
mod owners;
mod table;
mod world;

use checks::Checks;
use world::World;

/// How many seeds are run unless the environment says otherwise.
const SEEDS: u64 = 1_000;

/// The number of steps by which every delivery must have ended.
const MOST_STEPS: u32 = 60_000;

#[test]
#[expect(clippy::disallowed_methods, reason = "the seeds of a test come from the environment")]
fn every_delivery_ends_and_no_invariant_is_broken_in_any_order_of_events() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("SEED") {
        println!("seed {seed}: {} steps", run(seed));
        return;
    }
    let seeds = number("SEEDS").unwrap_or(SEEDS);
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    let steps: u64 = std::thread::scope(|scope| {
        let of_thread = |first| (first..seeds).step_by(threads).map(run_or_name).sum::<u64>();
        let threads: Vec<_> = (0..threads as u64).map(|first| scope.spawn(move || of_thread(first))).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined.map(|steps| steps.unwrap_or_else(|problem| std::panic::resume_unwind(problem))).sum()
    });
    println!("{seeds} seeds, {steps} steps");
}

/// Runs one seed; if it fails, says how to run it again.
fn run_or_name(seed: u64) -> u64 {
    match std::panic::catch_unwind(|| run(seed)) {
        Ok(steps) => u64::from(steps),
        Err(problem) => {
            eprintln!("SEED={seed} in the environment runs this one alone");
            std::panic::resume_unwind(problem)
        }
    }
}

/// Runs one seed and returns the number of its steps.
fn run(seed: u64) -> u32 {
    let mut world = World::new(seed);
    for step in 0..MOST_STEPS {
        if world.has_ended() {
            return step;
        }
        world.step(step > MOST_STEPS / 2);
    }
    unreachable!("seed {seed}: not at the end after {MOST_STEPS} steps: {}", world.describe());
}
