//! Every sample of every provider in a table of changes: none of them is accepted.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::sample::{Encoding, Sample, admits_gaps};
use super::samples;
use crate::provider::catalogue;

/// Counts the attempts, so that an empty table is noticed.
#[derive(Default)]
struct Cases {
    refused: usize,
    accepted: usize,
}

impl Cases {
    fn refuse(&mut self, sample: &Sample, what: &str, accepted: bool) {
        assert!(!accepted, "{} accepts a request with {what}", sample.provider);
        self.refused += 1;
    }

    fn accept(&mut self, sample: &Sample, what: &str, refused: Option<String>) {
        assert_eq!(refused, None, "{} refuses a request with {what}", sample.provider);
        self.accepted += 1;
    }
}

#[test]
fn every_provider_accepts_its_samples_and_refuses_every_change_of_them() {
    let samples = samples();
    let mut cases = Cases::default();
    for sample in &samples {
        let refused = sample.verify().err().map(|rejection| rejection.detail());
        cases.accept(sample, "its own signature", refused);
        if sample.signature.is_empty() {
            assert!(sample.verify().expect("accepted").unsigned(), "{}", sample.provider);
            continue;
        }
        bodies(sample, &mut cases);
        signatures(sample, &mut cases);
        times(sample, &mut cases);
        headers(sample, &mut cases);
        secrets(sample, &mut cases);
    }
    let providers: BTreeSet<_> = samples.iter().map(|sample| sample.provider.as_str()).collect();
    let missing: Vec<_> =
        catalogue().iter().map(|provider| provider.id.as_str()).filter(|id| !providers.contains(id)).collect();
    assert_eq!(missing, [""; 0], "providers without a sample");
    println!(
        "{} providers, {} signed requests: {} accepted and {} tampered ones refused",
        providers.len(),
        samples.len(),
        cases.accepted,
        cases.refused
    );
}

fn bodies(sample: &Sample, cases: &mut Cases) {
    let body = sample.body.as_bytes();
    let last = &body[..body.len() - 1];
    let others = [last.to_vec(), [body, b"\n"].concat(), [b" ", body].concat(), Vec::new()];
    if sample.fields_only {
        assert!(admits_gaps(&sample.provider), "{} says what is not authenticated", sample.provider);
        return;
    }
    for at in 0..body.len() * 8 {
        let mut changed = body.to_vec();
        changed[at / 8] ^= 1 << (at % 8);
        cases.refuse(sample, &format!("bit {at} of the body changed"), sample.verify_body(&changed).is_ok());
    }
    for other in others {
        cases.refuse(sample, "another body", sample.verify_body(&other).is_ok());
    }
}

fn signatures(sample: &Sample, cases: &mut Cases) {
    let signature = &sample.signature;
    let mut with = |what: &str, changed: &str| {
        cases.refuse(sample, what, sample.with(signature, changed).verify().is_ok());
    };
    for at in 0..signature.len() {
        let mut changed = signature.clone();
        let other = if signature.as_bytes()[at] == b'0' { "1" } else { "0" };
        changed.replace_range(at..=at, other);
        with(&format!("character {at} of the signature changed"), &changed);
        with(&format!("the signature cut to {at}"), &signature[..at]);
    }
    let raw = match sample.encoding {
        Some(Encoding::Hex) => hex::decode(signature).expect("hexadecimal"),
        Some(Encoding::Base64) => BASE64.decode(signature).expect("base64"),
        None => return,
    };
    for at in 0..raw.len() * 8 {
        let mut changed = raw.clone();
        changed[at / 8] ^= 1 << (at % 8);
        let changed = match sample.encoding {
            Some(Encoding::Base64) => BASE64.encode(&changed),
            Some(Encoding::Hex) | None => hex::encode(&changed),
        };
        with(&format!("bit {at} of the signature changed"), &changed);
    }
    with("a signature of zeros", &zeros(sample, raw.len()));
    let other = match sample.encoding {
        Some(Encoding::Base64) => hex::encode(&raw),
        Some(Encoding::Hex) | None => BASE64.encode(&raw),
    };
    with("the signature in another encoding", &other);
}

fn zeros(sample: &Sample, length: usize) -> String {
    match sample.encoding {
        Some(Encoding::Base64) => BASE64.encode(vec![0; length]),
        Some(Encoding::Hex) | None => "0".repeat(length * 2),
    }
}

fn times(sample: &Sample, cases: &mut Cases) {
    let at = |seconds: i64| sample.verify_at(sample.signed_at_s.saturating_add_signed(seconds));
    if let Some([time, next]) = &sample.time {
        cases.refuse(sample, "another time", sample.with(time, next).verify().is_ok());
        for bit in 0..7 {
            let mut changed = time.clone().into_bytes();
            let end = changed.len() - 3;
            changed[end] ^= 1 << bit;
            let changed = String::from_utf8(changed).expect("ASCII");
            cases.refuse(sample, "a bit of the time changed", sample.with(time, &changed).verify().is_ok());
        }
    }
    if let Some(tolerance_s) = sample.tolerance_s {
        let tolerance_s = i64::try_from(tolerance_s).expect("small");
        for now in [tolerance_s, -tolerance_s] {
            cases.accept(sample, "a time at the edge of the tolerance", at(now).err().map(|why| why.detail()));
        }
        for now in [tolerance_s + 1, -tolerance_s - 1, 1_000_000_000, -1_000_000_000] {
            cases.refuse(sample, &format!("a time that is {now} s off"), at(now).is_ok());
        }
    }
    if let Some(expires_s) = sample.expires_s {
        let expires_s = i64::try_from(expires_s).expect("small");
        cases.accept(sample, "a token that is about to expire", at(expires_s - 1).err().map(|why| why.detail()));
        for now in [expires_s + 61, 1_000_000_000] {
            cases.refuse(sample, &format!("a token that is {now} s old"), at(now).is_ok());
        }
    }
}

fn headers(sample: &Sample, cases: &mut Cases) {
    let all: Vec<(String, String)> = sample.headers.clone().into_iter().collect();
    for case in [str::to_ascii_uppercase, str::to_ascii_lowercase] {
        let same = all.iter().map(|(name, value)| (case(name), value.clone())).collect();
        let refused = sample.verify_headers(same).err().map(|rejection| rejection.detail());
        cases.accept(sample, "header names in another case", refused);
    }
    for (name, value) in &all {
        let without = all.iter().filter(|(other, _)| other != name).cloned().collect();
        cases.refuse(sample, &format!("no {name}"), sample.verify_headers(without).is_ok());
        for empty in ["", " "] {
            let mut emptied = all.clone();
            emptied.iter_mut().filter(|(other, _)| other == name).for_each(|(_, value)| *value = empty.to_owned());
            cases.refuse(sample, &format!("an empty {name}"), sample.verify_headers(emptied).is_ok());
        }
        let mut twice = all.clone();
        twice.push((name.to_ascii_uppercase(), value.clone()));
        cases.refuse(sample, &format!("{name} twice"), sample.verify_headers(twice).is_ok());
        let mut joined = all.clone();
        joined
            .iter_mut()
            .filter(|(other, _)| other == name)
            .for_each(|(_, value)| *value = format!("{value}, {value}"));
        cases.refuse(sample, &format!("{name} joined with itself"), sample.verify_headers(joined).is_ok());
    }
}

fn secrets(sample: &Sample, cases: &mut Cases) {
    let Some(wrong) = &sample.wrong else { return };
    let alone = sample.with_secrets(vec![wrong.clone()]);
    cases.refuse(sample, "another secret", alone.verify().is_ok());
    let both = sample.with_secrets([vec![wrong.clone()], sample.secrets.clone()].concat());
    let which = both.verify().map(|verified| verified.which()).ok().flatten();
    assert_eq!(which, Some(1), "{} accepts the second secret", sample.provider);
}
