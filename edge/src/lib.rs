//! The edge of Tidegate: a Cloudflare Worker that receives webhooks, verifies them, puts them into a queue and answers.
//!
//! It is a thin adapter around [`shared`], which verifies and knows the format of the messages. A panic would also end
//! the isolate's other requests, so nothing here panics on input.

mod admin;
mod bindings;
mod body;
mod cache;
mod credentials;
mod enqueue;
mod fast_path;
mod host;
mod ingest;
mod log;
mod over_rate;
mod published_keys;
mod rejections;
mod request;
mod respond;
mod route;
mod sources;
mod store_body;
mod stored;

pub use fast_path::{receive, receive_by_length, send_again};
use worker::{Context, Env, Result, event, web_sys};

use bindings::Bindings;
use respond::Answer;
use route::Route;

/// Answers one request.
///
/// # Errors
/// Returns an error if the host accepts no response at all; the host then answers 500 itself.
#[event(fetch)]
async fn fetch(request: web_sys::Request, env: Env, context: Context) -> Result<web_sys::Response> {
    let answer = answer(&request, &Bindings::new(env), &context).await;
    Ok(respond::respond(answer)?)
}

async fn answer(request: &web_sys::Request, bindings: &Bindings, context: &Context) -> Answer {
    let Some(head) = request::read(request) else { return Answer::BrokenHead };
    let path = head.path().to_owned();
    match route::route(&path) {
        Route::Source(reference) => ingest::ingest(reference, request, head, bindings, context).await,
        Route::Admin(route) => admin::admin(route, request, &head, bindings).await,
        Route::Health => Answer::Health,
        Route::Home => Answer::HomePage { html: request::wants_html(&head) },
        Route::Nothing => Answer::NotFound,
    }
}
