//! Compares the catalogue with the providers' own SDKs: `shared` accepts the requests that an SDK signs or accepts,
//! both refuse changes of them, and both read the same id and type from a request.
//!
//! If an SDK can sign, it signs the request. If it only verifies, the request is signed here, by a few lines that
//! follow the provider's documentation and share nothing with the interpreter of rules.

mod case;
mod keys;
mod node;
mod read;
mod sign;
mod urls;

use std::collections::BTreeSet;

use case::{Case, Signer, Tampered};
use node::{Answer, Job};
use shared::sample::Wanted;

/// All cases, signed.
fn cases() -> Vec<Case> {
    let mut cases: Vec<_> = sign::cases().into_iter().chain(keys::cases()).collect();
    let jobs = cases.iter().filter(|case| case.signer == Signer::Sdk).map(Job::sign);
    let answers = node::run(&jobs.collect::<Vec<_>>());
    let unsigned = cases.iter_mut().filter(|case| case.signer == Signer::Sdk);
    for (case, answer) in unsigned.zip(answers) {
        let Answer::Signed { headers, body } = answer else { panic!("{} was not signed: {answer:?}", case.provider) };
        case.request.headers = headers;
        case.request.body = body;
    }
    cases
}

#[test]
fn every_sdk_and_shared_accept_the_same_requests_and_refuse_the_same_changes() {
    let cases = cases();
    let tampered: Vec<_> =
        cases.iter().flat_map(|case| Tampered::all(case).map(move |change| (case, change))).collect();
    let jobs = cases.iter().map(|case| Job::verify(case, &case.request, &case.secret));
    let jobs: Vec<_> =
        jobs.chain(tampered.iter().map(|(case, change)| Job::verify(case, &change.request, &change.secret))).collect();
    let answers = node::run(&jobs);
    let (of_cases, of_tampered) = answers.split_at(cases.len());

    for (case, answer) in cases.iter().zip(of_cases) {
        let (provider, ours) = (case.provider, case.verify(&case.request, &case.secret));
        assert_eq!(ours.map(|verified| verified.unsigned()), Ok(false), "{provider}: we refuse a signed request");
        assert_eq!(*answer, Answer::accepted(), "{provider}: its SDK refuses a signed request");
    }
    let mut changes = 0;
    for ((case, change), answer) in tampered.iter().zip(of_tampered) {
        let (provider, what) = (case.provider, change.what);
        assert!(case.verify(&change.request, &change.secret).is_err(), "{provider}: we accept {what}");
        if change.seen_by_sdk {
            assert!(matches!(answer, Answer::Verified { accepted: false, .. }), "{provider}: its SDK accepts {what}");
            changes += 1;
        }
    }

    let of = |signer| cases.iter().filter(move |case| case.signer == signer).map(|case| case.provider);
    let providers: BTreeSet<_> = cases.iter().map(|case| case.provider).collect();
    println!("signed by the provider's own SDK: {}", of(Signer::Sdk).collect::<Vec<_>>().join(", "));
    println!("signed here, verified by the provider's own SDK: {}", of(Signer::Here).collect::<Vec<_>>().join(", "));
    println!(
        "{} providers agree with their own SDKs on {} requests and {changes} changes of them ({} refused by us)",
        providers.len(),
        cases.len(),
        tampered.len(),
    );
    assert!(providers.len() >= 25, "{} providers", providers.len());
}

#[test]
fn every_sdk_accepts_the_samples_of_tidegate_send() {
    let cases: Vec<_> = sign::cases().into_iter().chain(keys::cases()).collect();
    let samples: Vec<_> = cases.iter().filter_map(|case| Some((case, case.sample(Wanted::default())?))).collect();
    let jobs: Vec<_> = samples.iter().map(|(case, sample)| Job::verify(case, sample, &case.secret)).collect();
    let answers = node::run(&jobs);
    for ((case, sample), answer) in samples.iter().zip(&answers) {
        assert_eq!(*answer, Answer::accepted(), "{}: {sample:?}", case.provider);
    }
    println!("{} SDKs accept samples", samples.len());
    assert!(samples.len() >= 30, "{} samples", samples.len());
}
