//! A client of the relay's REST API, for tests. An unexpected response panics, and the message contains the response.

use std::time::Duration;

use serde_json::{Value, json};

use crate::provider::Provider;
use crate::wait::until;

/// A client with a token.
#[derive(Debug, Clone)]
pub struct Api {
    base: String,
    token: String,
    /// The customer that it names in each request; `None` if it names none.
    customer: Option<String>,
    client: reqwest::Client,
}

/// A response.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    pub status: u16,
    /// The JSON value, or the text as a string if it is not JSON.
    pub body: Value,
    /// The header `retry-after`, in seconds.
    pub retry_after: Option<u64>,
    call: String,
}

/// A created source.
#[derive(Debug, Clone)]
pub struct Source {
    pub id: String,
    /// The URL that the provider posts to.
    pub ingest_url: String,
    /// The whole response.
    pub body: Value,
}

/// A created destination.
#[derive(Debug, Clone)]
pub struct Destination {
    pub id: String,
    /// The secret that it verifies deliveries with.
    pub signing_secret: String,
    /// The whole response.
    pub body: Value,
}

impl Api {
    /// Creates a client for `base`, which has no trailing slash.
    #[must_use]
    pub fn new(base: &str, token: &str) -> Self {
        Self { base: base.to_owned(), token: token.to_owned(), customer: None, client: http_client() }
    }

    /// The same client with another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// The same client, acting for a customer, by its id or name; `*` asks for all customers.
    #[must_use]
    pub fn acting_for(&self, customer: &str) -> Self {
        Self { customer: Some(customer.to_owned()), ..self.clone() }
    }

    /// The same client, sending to another relay.
    #[must_use]
    pub fn at(&self, base: &str) -> Self {
        Self { base: base.to_owned(), ..self.clone() }
    }

    /// Sends a GET to a path such as `/v1/events?limit=10`.
    pub async fn get(&self, path: &str) -> Reply {
        self.call(reqwest::Method::GET, path, None).await
    }

    /// Calls a path with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.call(reqwest::Method::POST, path, Some(body)).await
    }

    /// Calls a path with a JSON body.
    pub async fn put(&self, path: &str, body: &Value) -> Reply {
        self.call(reqwest::Method::PUT, path, Some(body)).await
    }

    /// Calls a path with a JSON body.
    pub async fn patch(&self, path: &str, body: &Value) -> Reply {
        self.call(reqwest::Method::PATCH, path, Some(body)).await
    }

    /// Calls a path.
    pub async fn delete(&self, path: &str) -> Reply {
        self.call(reqwest::Method::DELETE, path, None).await
    }

    /// Returns the raw bytes at a path.
    ///
    /// # Panics
    /// Panics if the response is not 200.
    pub async fn bytes(&self, path: &str) -> Vec<u8> {
        let request = self.request(reqwest::Method::GET, path);
        let response = request.send().await.unwrap_or_else(|error| panic!("GET {path}: {error:?}"));
        assert_eq!(response.status(), 200, "GET {path}");
        response.bytes().await.unwrap_or_else(|error| panic!("GET {path}: {error:?}")).to_vec()
    }

    /// Calls a path and returns the response, or the error of the connection if the caller can handle it.
    ///
    /// # Errors
    /// Returns an error if there is no response.
    pub async fn try_call(&self, method: reqwest::Method, path: &str, body: Option<&Value>) -> reqwest::Result<Reply> {
        let call = format!("{method} {path}");
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.json(body);
        }
        Reply::read(call, request.send().await?).await
    }

    /// Creates a source of a provider.
    pub async fn create_source(&self, name: &str, provider: &Provider) -> Source {
        let wanted = json!({
            "name": name,
            "provider": provider.id,
            "secrets": provider.secrets,
            "config": provider.config,
        });
        let body = self.post("/v1/sources", &wanted).await.expect_status(201);
        Source { id: text(&body, "id"), ingest_url: text(&body, "ingest_url"), body }
    }

    /// Creates a destination; `more` holds further fields, such as `rate_limit`.
    pub async fn create_destination(&self, name: &str, url: &str, more: Value) -> Destination {
        let body = self.post("/v1/destinations", &with(json!({ "name": name, "url": url }), more)).await;
        let body = body.expect_status(201);
        Destination { id: text(&body, "id"), signing_secret: text(&body, "signing_secret"), body }
    }

    /// Creates a route; `more` holds further fields, such as `filter`. Returns its id.
    pub async fn create_route(&self, source: &str, destination: &str, more: Value) -> String {
        let wanted = with(json!({ "source": source, "destination": destination }), more);
        text(&self.post("/v1/routes", &wanted).await.expect_status(201), "id")
    }

    /// Returns an event with its decision.
    ///
    /// # Panics
    /// Panics if the response is not 200.
    pub async fn event(&self, id: impl std::fmt::Display) -> Value {
        self.get(&format!("/v1/events/{id}")).await.expect_status(200)
    }

    /// Returns the rows of all pages of a list, such as `/v1/deliveries?state=dead`.
    pub async fn all(&self, path: &str) -> Vec<Value> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let (mut all, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let page = match &cursor {
                Some(cursor) => self.get(&format!("{path}{separator}cursor={cursor}")).await,
                None => self.get(path).await,
            };
            let page = page.expect_status(200);
            all.extend(page["data"].as_array().into_iter().flatten().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => return all,
            }
        }
    }

    /// Waits until the object at a path, such as `/v1/sources/shop`, satisfies `is_wanted`, and returns it.
    ///
    /// # Panics
    /// Panics after `timeout`, and if a response is not 200.
    pub async fn wait_until(
        &self,
        what: &str,
        path: &str,
        timeout: Duration,
        is_wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        until(what, timeout, async || match self.get(path).await.expect_status(200) {
            object if is_wanted(&object) => Ok(object),
            object => Err(object.to_string()),
        })
        .await
    }

    /// Waits until a list, such as `/v1/deliveries?state=held`, has exactly `count` rows, and returns them.
    ///
    /// # Panics
    /// Panics after `timeout`, and if a response is not 200.
    pub async fn wait_for_rows(&self, path: &str, count: usize, timeout: Duration) -> Vec<Value> {
        until(&format!("{count} rows of {path}"), timeout, async || match self.all(path).await {
            rows if rows.len() == count => Ok(rows),
            rows => Err(format!("there are {}; the first is {:?}", rows.len(), rows.first())),
        })
        .await
    }

    /// Waits until a list has a row, and returns the first one, which is the newest.
    ///
    /// # Panics
    /// Panics after `timeout`, and if a response is not 200.
    pub async fn wait_for_row(&self, path: &str, timeout: Duration) -> Value {
        until(&format!("a row of {path}"), timeout, async || {
            self.all(path).await.into_iter().next().ok_or_else(|| "there is none".to_owned())
        })
        .await
    }

    /// Waits until a path answers with `status`, and returns the body.
    ///
    /// # Panics
    /// Panics after `timeout`.
    pub async fn wait_for_status(&self, path: &str, status: u16, timeout: Duration) -> Value {
        until(&format!("{path} to answer {status}"), timeout, async || match self.get(path).await {
            reply if reply.status == status => Ok(reply.body),
            reply => Err(format!("{reply:?}")),
        })
        .await
    }

    /// Waits until a replay has made all its deliveries, and returns its state then. `replay` is the response that
    /// created it.
    ///
    /// # Panics
    /// Panics after `timeout`, and if a response is not 200.
    pub async fn wait_for_replay(&self, replay: &Value, timeout: Duration) -> Value {
        let path = format!("/v1/replays/{}", id(replay));
        self.wait_until("the replay to be completed", &path, timeout, |replay| replay["state"] == "completed").await
    }

    /// Pauses a destination, by its id or name.
    ///
    /// # Panics
    /// Panics if the response is not 200.
    pub async fn pause(&self, destination: &str) -> Value {
        self.post(&format!("/v1/destinations/{destination}/pause"), &json!({})).await.expect_status(200)
    }

    /// Resumes a destination, by its id or name.
    ///
    /// # Panics
    /// Panics if the response is not 200.
    pub async fn resume(&self, destination: &str) -> Value {
        self.post(&format!("/v1/destinations/{destination}/resume"), &json!({})).await.expect_status(200)
    }

    /// Creates a customer, and returns its id.
    pub async fn create_customer(&self, name: &str) -> String {
        text(&self.post("/v1/customers", &json!({ "name": name })).await.expect_status(201), "id")
    }

    /// Creates a token with these scopes, for a customer if one is given; `more` holds further fields, such as
    /// `expires_at`. Returns the response.
    pub async fn create_token(&self, scopes: &[&str], customer: Option<&str>, more: Value) -> Value {
        let mut wanted = json!({ "name": format!("token for {scopes:?}"), "scopes": scopes });
        if let Some(customer) = customer {
            wanted["customer"] = customer.into();
        }
        self.post("/v1/tokens", &with(wanted, more)).await.expect_status(201)
    }

    /// A client with a new token that has these scopes, bound to a customer if one is given.
    pub async fn limited_to(&self, scopes: &[&str], customer: Option<&str>) -> Self {
        let created = self.create_token(scopes, customer, json!({})).await;
        self.with_token(&text(&created, "token"))
    }

    pub(crate) fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
        match &self.customer {
            Some(customer) => request.header("tidegate-customer", customer),
            None => request,
        }
    }

    async fn call(&self, method: reqwest::Method, path: &str, body: Option<&Value>) -> Reply {
        let call = format!("{method} {path}");
        self.try_call(method, path, body).await.unwrap_or_else(|error| panic!("{call}: {error:?}"))
    }
}

impl Reply {
    /// Reads a response.
    pub(crate) async fn read(call: String, response: reqwest::Response) -> reqwest::Result<Self> {
        let status = response.status().as_u16();
        let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let text = response.text().await?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok(Self { status, body, retry_after, call })
    }

    /// Returns the body of a response with this status.
    ///
    /// # Panics
    /// Panics if the response has another status.
    #[track_caller]
    pub fn expect_status(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{} answered {}", self.call, self.body);
        self.body
    }
}

/// Creates a client that follows no redirects and uses no proxy.
#[must_use]
pub fn http_client() -> reqwest::Client {
    let builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    builder.build().unwrap_or_else(|error| panic!("cannot make an HTTP client: {error:?}"))
}

/// Returns the id of an object from a response.
///
/// # Panics
/// Panics if it has none.
#[must_use]
#[track_caller]
pub fn id(object: &Value) -> &str {
    object["id"].as_str().unwrap_or_else(|| panic!("no \"id\" in {object}"))
}

fn with(mut fields: Value, more: Value) -> Value {
    if let (Some(fields), Value::Object(more)) = (fields.as_object_mut(), more) {
        fields.extend(more);
    }
    fields
}

fn text(body: &Value, field: &str) -> String {
    body[field].as_str().unwrap_or_else(|| panic!("no \"{field}\" in {body}")).to_owned()
}
