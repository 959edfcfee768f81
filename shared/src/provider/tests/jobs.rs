//! Jobs: their keys, their states, and what a source exposes of them.

use serde_json::{Value, json};

use crate::extract::extract;
use crate::header::HeaderList;
use crate::job::expose::reduced;
use crate::job::{End, Job, JobRule};
use crate::provider::tests::vectors::source;
use crate::provider::{catalogue, exposed, find};

fn job(provider: &str, config: &Value, query: &str, body: &Value) -> Option<Job> {
    let headers = HeaderList::new([("content-type", "application/json")]);
    let body = body.to_string();
    extract(find(provider).expect("in the catalogue"), config, query, &headers, body.as_bytes()).job
}

fn of(provider: &str, body: &Value) -> (String, Option<End>) {
    let job = job(provider, &Value::Null, "", body).unwrap_or_else(|| panic!("{provider} names no job in {body}"));
    (job.key, job.end)
}

#[test]
fn every_provider_names_its_job_and_how_it_ended() {
    let cases = [
        ("replicate", json!({"id": "p1", "status": "processing"}), "p1", None),
        ("replicate", json!({"id": "p1", "status": "succeeded"}), "p1", Some(End::Good)),
        ("replicate", json!({"id": "p1", "status": "aborted"}), "p1", Some(End::Bad)),
        ("fal", json!({"request_id": "r1", "gateway_request_id": "g1", "status": "OK"}), "r1", Some(End::Good)),
        ("fal", json!({"request_id": "r1", "status": "ERROR"}), "r1", Some(End::Bad)),
        ("openai", json!({"type": "response.completed", "data": {"id": "resp_1"}}), "resp_1", Some(End::Good)),
        ("openai", json!({"type": "eval.run.canceled", "data": {"id": "run_1"}}), "run_1", Some(End::Bad)),
        ("openai", json!({"type": "realtime.call.incoming", "data": {"id": "rtc_1"}}), "rtc_1", None),
        ("anthropic", json!({"data": {"id": "s1", "type": "session.status_idled"}}), "s1", Some(End::Good)),
        (
            "elevenlabs",
            json!({"type": "post_call_transcription", "data": {"conversation_id": "c1"}}),
            "c1",
            Some(End::Good),
        ),
        ("assemblyai", json!({"transcript_id": "t1", "status": "error"}), "t1", Some(End::Bad)),
        ("deepgram", json!({"metadata": {"request_id": "d1"}, "results": {}}), "d1", Some(End::Good)),
        ("deepgram", json!({"type": "Results", "metadata": {"request_id": "d1"}}), "d1", None),
        ("runpod", json!({"id": "j1", "status": "TIMED_OUT"}), "j1", Some(End::Bad)),
        ("runpod", json!({"id": "j1", "status": "IN_PROGRESS"}), "j1", None),
        ("openrouter", json!({"type": "video.generation.expired", "data": {"id": "v1"}}), "v1", Some(End::Bad)),
        ("bfl", json!({"id": "b1", "status": "Content Moderated"}), "b1", Some(End::Bad)),
        ("kling", json!({"data": {"task_id": "k1", "task_status": "succeed"}}), "k1", Some(End::Good)),
        ("kling", json!({"task_id": "k1", "task_status": "submitted"}), "k1", None),
        ("runware", json!({"data": [{"taskUUID": "u1", "taskType": "imageInference"}]}), "u1", Some(End::Good)),
        ("runware", json!({"errors": [{"taskUUID": "u1", "code": "timeoutProvider"}]}), "u1", Some(End::Bad)),
        ("luma", json!({"id": "l1", "state": "dreaming"}), "l1", None),
        (
            "heygen",
            json!({"event_type": "avatar_video.success", "event_data": {"video_id": "h1"}}),
            "h1",
            Some(End::Good),
        ),
        (
            "heygen",
            json!({"event_type": "video_translate.fail", "event_data": {"video_id": "h1"}}),
            "h1",
            Some(End::Bad),
        ),
        ("d-id", json!({"id": "t1", "status": "rejected"}), "t1", Some(End::Bad)),
        ("higgsfield", json!({"request_id": "q1", "status": "nsfw"}), "q1", Some(End::Bad)),
        ("kie", json!({"data": {"taskId": "k1", "state": "success"}}), "k1", None),
        ("pollo", json!({"taskId": "o1", "status": "succeed"}), "o1", Some(End::Good)),
        ("gladia", json!({"id": "g1", "event": "transcription.error"}), "g1", Some(End::Bad)),
        ("rev-ai", json!({"job": {"id": "r1", "status": "transcribed"}}), "r1", Some(End::Good)),
        ("vapi", json!({"message": {"type": "end-of-call-report", "call": {"id": "c1"}}}), "c1", Some(End::Good)),
        ("retell", json!({"event": "call_ended", "call": {"call_id": "c1"}}), "c1", None),
        ("cartesia", json!({"request_id": "c1", "type": "call_failed"}), "c1", Some(End::Bad)),
        (
            "livekit",
            json!({"event": "egress_ended", "egressInfo": {"egressId": "e1", "status": "EGRESS_COMPLETE"}}),
            "e1",
            Some(End::Good),
        ),
        ("firecrawl", json!({"id": "f1", "type": "crawl.page"}), "f1", None),
        ("firecrawl", json!({"id": "f1", "type": "batch_scrape.completed"}), "f1", Some(End::Good)),
        ("cloudflare-stream", json!({"uid": "s1", "status": {"state": "error"}}), "s1", Some(End::Bad)),
    ];
    for (provider, body, key, end) in cases {
        assert_eq!(of(provider, &body), (key.to_owned(), end), "{provider} {body}");
    }
    let speechmatics = job("speechmatics", &Value::Null, "id=s1&status=trim_error", &json!("text"));
    assert_eq!(speechmatics.map(|job| (job.key, job.end)), Some(("s1".to_owned(), Some(End::Bad))));
}

#[test]
fn an_event_without_the_jobs_id_is_about_no_job() {
    assert_eq!(job("elevenlabs", &Value::Null, "", &json!({"type": "voice_removed", "data": {}})), None);
    assert_eq!(job("stripe", &Value::Null, "", &json!({"id": "evt_1", "type": "a.b"})), None);
    assert_eq!(job("replicate", &Value::Null, "", &json!({"status": "succeeded"})), None);
}

#[test]
fn a_source_reads_the_job_key_from_a_place_of_its_own() {
    let body = json!({"id": "p1", "status": "succeeded", "order": {"number": 7}});
    let own = json!({"job_key": "{json:order.number}-{query:try}"});
    let read = job("replicate", &own, "try=2", &body).expect("a job");
    assert_eq!((read.key.as_str(), read.end), ("7-2", Some(End::Good)));
    let read = job("stripe", &json!({"job_key": {"pointer": "/order/number"}}), "", &body).expect("a job");
    assert_eq!(read, Job { key: "7".to_owned(), state: None, end: None });
    assert_eq!(job("replicate", &json!({"job_key": "none"}), "", &body), None);
}

#[test]
fn a_rule_names_places_that_every_request_has_and_no_state_is_in_both_lists() {
    for provider in catalogue() {
        let Some(rule) = &provider.job else { continue };
        assert!(!rule.id.is_empty(), "{}", provider.id);
        assert!(rule.good.iter().all(|state| !rule.bad.contains(state)), "{}", provider.id);
    }
    let known = catalogue().iter().filter(|provider| provider.job.as_ref().is_some_and(JobRule::knows_ends));
    assert!(known.count() >= 25);
}

#[test]
fn a_source_exposes_fields_of_its_bodies() {
    let exposed = |config: Value| exposed(&config);
    assert_eq!(exposed(json!({"expose": ["/status", "/output/url"]})), ["/status", "/output/url"]);
    assert!(exposed(Value::Null).is_empty());
    let problems = |expose: Value| {
        let problems = source("replicate", &["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], &json!({ "expose": expose }));
        problems.expect_err("refused").into_iter().map(|problem| problem.field).collect::<Vec<_>>()
    };
    for wrong in [json!("/status"), json!(["status"]), json!([7]), json!([""]), json!(vec!["/a"; 33])] {
        assert_eq!(problems(wrong.clone()), ["expose"], "{wrong}");
    }
}

#[test]
fn an_exposed_field_keeps_its_place_and_others_are_left_out() {
    let body = json!({"status": "succeeded", "output": {"url": "u", "seed": 1}, "items": [{"url": "i"}], "a/b": 2});
    let pointers = ["/status", "/output/url", "/items/0/url", "/missing", "/a~1b"].map(str::to_owned);
    let seen = reduced(&body, &pointers);
    assert_eq!(seen, json!({"status": "succeeded", "output": {"url": "u"}, "a/b": 2}));
    assert_eq!(reduced(&json!([1]), &pointers), json!({}));
    assert_eq!(
        reduced(&body, &["/output".to_owned(), "/output/url".to_owned()]),
        json!({"output": {"url": "u", "seed": 1}})
    );
}
