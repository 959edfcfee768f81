//! A bounded run of the fuzz targets: every input of the corpus, and changes of them. A name in the corpus begins with
//! `accepted` or `refused`, which is the expected result. `PROPTEST_CASES` sets how many changes are tried: 8 times as
//! many for each target.

#[path = "../../fuzz/src/lib.rs"]
pub mod targets;

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;

/// A case costs little, so there are more of them than is usual.
const CHANGES: u32 = 8;

/// Pieces that formats are made of, and that break them.
const PIECES: &[&str] = &[
    "{tag}",
    "{token}",
    "{sha256}",
    "{body}",
    ", ",
    ",",
    "=",
    "==",
    ".",
    ":",
    ";",
    " ",
    "\t",
    "\n",
    "\n\n",
    "\0",
    "%",
    "%2e",
    "&",
    "+",
    "/",
    "//",
    "..",
    "~",
    "~1",
    "[]",
    "{}",
    "[",
    "{",
    "\"",
    "null",
    "true",
    "0",
    "00",
    "-1",
    "1e9",
    "1700000000",
    "1700000300",
    "1700000301",
    "18446744073709551616",
    "2023-11-14T22:13:20Z",
    "2023-11-14T22:12:60Z",
    "\u{661}",
    "é",
    "\u{a0}",
    "v1",
    "v1=",
    "v1,",
    "t=",
    "sha256=",
    "none",
    "any_of",
    "-----BEGIN PUBLIC KEY-----",
    "A",
    "a",
    "F",
    "bodySHA256=",
    "\\ud83d",
    "\\ude00",
    "\u{feff}",
    "NaN",
    "-Infinity",
    "1e400",
    "36893488147419103233",
    "payload=",
    "charset=latin1",
];

/// One change of an input. Places are counted in its bytes or lines.
#[derive(Debug, Clone)]
enum Change {
    Replace(Index, u8),
    Insert(Index, &'static str),
    /// At the beginning or the end of a word.
    InsertBesideWord(Index, &'static str),
    Remove(Index, usize),
    Repeat(Index),
    Drop(Index),
    Swap(Index, Index),
    Case(Index),
    Truncate(Index),
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        2 => any::<(Index, u8)>().prop_map(|(at, byte)| Change::Replace(at, byte)),
        3 => (any::<Index>(), select(PIECES)).prop_map(|(at, piece)| Change::Insert(at, piece)),
        5 => (any::<Index>(), select(PIECES)).prop_map(|(at, piece)| Change::InsertBesideWord(at, piece)),
        2 => (any::<Index>(), 1..9_usize).prop_map(|(at, length)| Change::Remove(at, length)),
        2 => any::<Index>().prop_map(Change::Repeat),
        1 => any::<Index>().prop_map(Change::Drop),
        1 => any::<(Index, Index)>().prop_map(|(one, other)| Change::Swap(one, other)),
        1 => any::<Index>().prop_map(Change::Case),
        1 => any::<Index>().prop_map(Change::Truncate),
    ]
}

impl Change {
    fn apply(&self, input: &mut Vec<u8>) {
        let place = |at: &Index| at.index(input.len().max(1)).min(input.len());
        let mut lines: Vec<_> = input.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        let line = |at: &Index| at.index(lines.len());
        match self {
            Self::Replace(at, byte) => {
                let at = place(at);
                input.get_mut(at).into_iter().for_each(|old| *old = *byte);
            }
            Self::Insert(at, piece) => {
                let at = place(at);
                input.splice(at..at, piece.bytes());
            }
            Self::InsertBesideWord(at, piece) => {
                let is_in_word = |at: usize| input.get(at).is_some_and(u8::is_ascii_alphanumeric);
                let edges: Vec<_> = (0..=input.len())
                    .filter(|at| at.checked_sub(1).is_some_and(is_in_word) != is_in_word(*at))
                    .collect();
                let at = edges.get(at.index(edges.len().max(1))).copied().unwrap_or_default();
                input.splice(at..at, piece.bytes());
            }
            Self::Remove(at, length) => {
                let (from, to) = (place(at), input.len().min(place(at) + length));
                input.drain(from..to);
            }
            Self::Case(at) => {
                let at = place(at);
                let letters = input.iter_mut().skip(at).take(8).filter(|byte| byte.is_ascii_alphabetic());
                letters.for_each(|byte| *byte ^= 0x20);
            }
            Self::Truncate(at) => input.truncate(place(at)),
            Self::Repeat(at) => {
                let at = line(at);
                lines.insert(at, lines[at].clone());
                *input = lines.join(&b'\n');
            }
            Self::Drop(at) => {
                lines.remove(line(at));
                *input = lines.join(&b'\n');
            }
            Self::Swap(one, other) => {
                let (one, other) = (line(one), line(other));
                lines.swap(one, other);
                *input = lines.join(&b'\n');
            }
        }
    }
}

/// The inputs that are kept for a target, each with its name.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let files = fs::read_dir(&folder).expect("a corpus").map(|file| file.expect("a file"));
    let mut inputs: Vec<_> = files
        .map(|file| (file.file_name().into_string().expect("text"), fs::read(file.path()).expect("reads")))
        .collect();
    inputs.sort();
    inputs
}

fn run(name: &str, target: fn(&[u8]) -> bool) {
    let inputs = corpus(name);
    let outcome = |input| if target(input) { "accepted" } else { "refused" };
    let wrong: Vec<_> = inputs.iter().filter(|(file, input)| !file.starts_with(outcome(input))).collect();
    assert!(wrong.is_empty(), "not as their names say: {:?}", wrong.iter().map(|(file, _)| file).collect::<Vec<_>>());
    let inputs: Vec<_> = inputs.into_iter().map(|(_, input)| input).collect();
    let changed = (select(inputs), vec(any_change(), 1..5)).prop_map(|(mut input, changes)| {
        changes.iter().for_each(|change| change.apply(&mut input));
        input
    });
    let default = ProptestConfig::default();
    let cases = default.cases.saturating_mul(CHANGES);
    let mut runner = TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..default });
    let outcome = runner.run(&changed, |input| {
        target(&input);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

macro_rules! bounded {
    ($($test:ident: $target:ident;)*) => {
        /// All targets, in the order of their names.
        const TARGETS: &[&str] = &[$(stringify!($target)),*];

        $(
            #[test]
            fn $test() {
                run(stringify!($target), targets::$target);
            }
        )*
    };
}

bounded! {
    no_message_is_read_otherwise_than_plainly: envelope;
    no_event_is_read_otherwise_than_plainly: extraction;
    no_text_is_an_id_that_is_not_one: id;
    no_key_is_taken_that_is_none: keys;
    no_body_is_read_otherwise_than_plainly: reader;
    no_request_is_accepted_that_its_provider_did_not_sign: request;
    no_scheme_accepts_what_nobody_signed: scheme;
    no_signature_is_read_otherwise_than_plainly: signature;
    no_text_is_read_and_not_written_again: template;
    no_token_is_accepted_that_was_not_signed: token;
}

#[test]
fn every_fuzz_target_has_a_program_a_corpus_and_a_bounded_run() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let names = |folder: &str| {
        let files = fs::read_dir(fuzz.join(folder)).expect("a folder").map(|file| file.expect("a file").path());
        let mut names: Vec<_> =
            files.map(|file| file.file_stem().expect("a name").to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names("fuzz_targets"), TARGETS);
    assert_eq!(names("corpus"), TARGETS);
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).expect("reads");
    let programs: Vec<_> = manifest.lines().filter_map(|line| line.strip_prefix("path = \"fuzz_targets/")).collect();
    assert_eq!(programs, TARGETS.iter().map(|name| format!("{name}.rs\"")).collect::<Vec<_>>());
}
