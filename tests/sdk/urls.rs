//! The spellings of a URL that Twilio may have signed, compared with Twilio's own SDK.

use super::case::{Case, Request};
use super::node::{Answer, Job, run};
use super::sign::twilio;

/// The signed queries. Each is received in the spelling of each.
const QUERIES: [&str; 14] = [
    "",
    "?n=O'Brien",
    "?n=O%27Brien",
    "?n=William+O'hara",
    "?n=William%20O'hara",
    "?n=William+O%27hara",
    "?c=sip:1@192.0.2.10&n=O'Brien",
    "?c=sip%3A1%40192.0.2.10&n=O'Brien",
    "?c=sip%3A1%40192.0.2.10&n=O%27Brien",
    "?n=\"a|b\"",
    "?n=%22a%7Cb%22",
    "?u=ü&a[]=1",
    "?u=%C3%BC&a%5B%5D=1",
    "?n=O%2527Brien",
];

fn at(case: &Case, url: String) -> Request {
    Request { url, ..case.request.clone() }
}

#[test]
fn every_spelling_of_a_url_that_twilios_sdk_accepts_is_accepted() {
    let case = twilio();
    let hosts = ["https://in.example", "https://in.example:443", "https://in.example:8443"];
    let signed: Vec<_> =
        hosts.iter().flat_map(|host| QUERIES.map(|query| at(&case, format!("{host}/in/a{query}")))).collect();
    let cases: Vec<_> = signed.iter().map(|request| Case { request: request.clone(), ..case.clone() }).collect();
    let signatures = run(&cases.iter().map(Job::sign).collect::<Vec<_>>());

    let mut arrives = Vec::new();
    for (request, answer) in signed.iter().zip(signatures) {
        let Answer::Signed { headers, .. } = answer else { panic!("not signed: {answer:?}") };
        for query in QUERIES {
            let url = format!("https://in.example/in/a{query}");
            arrives.push((request.url.clone(), Request { url, headers: headers.clone(), ..case.request.clone() }));
        }
    }
    let answers =
        run(&arrives.iter().map(|(_, request)| Job::verify(&case, request, &case.secret)).collect::<Vec<_>>());
    let mut accepted = [0, 0];
    for ((signed, request), answer) in arrives.iter().zip(&answers) {
        let is_good = case.verify(request, &case.secret).is_ok();
        let is_good_for_sdk = *answer == Answer::accepted();
        assert!(is_good || !is_good_for_sdk, "{signed} arrives as {}: only its SDK accepts it", request.url);
        accepted = [accepted[0] + usize::from(is_good), accepted[1] + usize::from(is_good_for_sdk)];
        if is_good {
            assert_eq!(parameters(signed), parameters(&request.url), "another request is accepted");
        }
    }
    println!("of {} spellings {} are accepted, by Twilio's SDK {}", arrives.len(), accepted[0], accepted[1]);
    assert!(accepted[1] > 2 * QUERIES.len(), "{accepted:?}");
}

/// The parameters of a URL's query, parsed as a form.
fn parameters(url: &str) -> Vec<(String, String)> {
    let url = reqwest::Url::parse(url).expect("a URL");
    url.query_pairs().into_owned().collect()
}
