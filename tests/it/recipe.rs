//! recipe: the commands of the README that deploy Tidegate are in a working order, and match the queues of the tests.

use std::collections::BTreeMap;

use harness::page::{Page, commands};
use harness::queue::{Queue, Settings};

/// The commands of the README's section "Deploying", in order, without comments.
pub(crate) fn readme() -> Vec<String> {
    let blocks = Page::read("README.md").and_then(|page| page.blocks("Deploying")).expect("reads");
    blocks.iter().flat_map(|block| commands(block)).collect()
}

#[test]
fn the_readme_creates_each_resource_before_the_command_that_needs_it() {
    let readme = readme();
    let at = |begin: &str| {
        let position = readme.iter().position(|command| command.starts_with(begin));
        position.unwrap_or_else(|| panic!("no command begins with {begin}: {readme:#?}"))
    };
    for (first, then) in [
        ("npx wrangler queues create tidegate-dead ", "npx wrangler queues consumer http add tidegate-events "),
        ("npx wrangler queues create tidegate-events ", "npx wrangler queues consumer http add tidegate-events "),
        ("npx wrangler queues consumer http add tidegate-events ", "npx wrangler deploy"),
        ("npx wrangler r2 bucket create tidegate-bodies", "npx wrangler r2 bucket lifecycle add tidegate-bodies "),
        ("npx wrangler kv namespace create SOURCES", "npx wrangler deploy"),
        ("npx wrangler deploy", "npx wrangler secret put ADMIN_TOKEN"),
        ("target/release/tidegate migrate", "target/release/tidegate doctor"),
        ("target/release/tidegate doctor", "target/release/tidegate serve"),
    ] {
        assert!(at(first) < at(then), "{first} comes after {then}");
    }
}

#[test]
fn the_local_queues_are_configured_as_the_readme_says() {
    let mut created = BTreeMap::new();
    for command in readme() {
        let words: Vec<&str> = command.split(' ').collect();
        let value = |flag: &str| words.iter().position(|word| *word == flag).map(|at| words[at + 1]);
        let number = |flag: &str| value(flag).and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{command}"));
        match words.as_slice() {
            ["npx", "wrangler", "queues", "create", name, ..] => {
                let settings =
                    Settings { retention_s: number("--message-retention-period-secs"), ..Settings::default() };
                created.insert((*name).to_owned(), Queue { has_consumer: false, ..Queue::new(name, settings) });
            }
            ["npx", "wrangler", "queues", "consumer", "http", "add", name, ..] => {
                let queue = created.get_mut(*name).expect("is created first");
                queue.has_consumer = true;
                queue.dead_letter_queue = value("--dead-letter-queue").map(str::to_owned);
                queue.settings = Settings {
                    retention_s: queue.settings.retention_s,
                    batch_size: usize::try_from(number("--batch-size")).expect("fits"),
                    visibility_timeout_ms: number("--visibility-timeout-secs") * 1_000,
                    max_retries: u32::try_from(number("--message-retries")).expect("fits"),
                    retry_delay_s: number("--retry-delay-secs"),
                };
            }
            _ => {}
        }
    }
    let local: BTreeMap<String, Queue> = Queue::recipe().into_iter().map(|queue| (queue.name.clone(), queue)).collect();
    assert_eq!(created, local);
}
