//! A client of the relay's REST API, for tests: what they did not expect ends them with the answer in the message.

use serde_json::{Value, json};

use crate::provider::Provider;

/// A client with a token.
#[derive(Debug, Clone)]
pub struct Api {
    base: String,
    token: String,
    client: reqwest::Client,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    pub status: u16,
    /// JSON where it was JSON, else its text.
    pub body: Value,
    call: String,
}

/// A source that was created.
#[derive(Debug, Clone)]
pub struct Source {
    pub id: String,
    /// Where the provider posts to.
    pub ingest_url: String,
    /// The whole answer.
    pub body: Value,
}

/// A destination that was created.
#[derive(Debug, Clone)]
pub struct Destination {
    pub id: String,
    /// What it verifies deliveries with.
    pub signing_secret: String,
    /// The whole answer.
    pub body: Value,
}

impl Api {
    /// A client for `base` (without a slash at the end).
    #[must_use]
    pub fn new(base: &str, token: &str) -> Self {
        Self { base: base.to_owned(), token: token.to_owned(), client: http_client() }
    }

    /// Calls a path such as `/v1/events?limit=10`.
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

    /// The raw bytes at a path.
    ///
    /// # Panics
    /// Where the answer is not 200.
    pub async fn bytes(&self, path: &str) -> Vec<u8> {
        let request = self.client.get(format!("{}{path}", self.base)).bearer_auth(&self.token);
        let response = request.send().await.unwrap_or_else(|error| panic!("GET {path}: {error:?}"));
        assert_eq!(response.status(), 200, "GET {path}");
        response.bytes().await.unwrap_or_else(|error| panic!("GET {path}: {error:?}")).to_vec()
    }

    /// Calls a path and gives the answer, or what happened to the connection: for callers that go on without.
    ///
    /// # Errors
    /// Where there is no answer.
    pub async fn try_call(&self, method: reqwest::Method, path: &str, body: Option<&Value>) -> reqwest::Result<Reply> {
        let call = format!("{method} {path}");
        let mut request = self.client.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        let text = response.text().await?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok(Reply { status, body, call })
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

    /// Creates a route; `more` holds further fields, such as `filter`. Gives its id.
    pub async fn create_route(&self, source: &str, destination: &str, more: Value) -> String {
        let wanted = with(json!({ "source": source, "destination": destination }), more);
        text(&self.post("/v1/routes", &wanted).await.expect_status(201), "id")
    }

    /// All pages of a list, such as `/v1/deliveries?state=dead`.
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

    async fn call(&self, method: reqwest::Method, path: &str, body: Option<&Value>) -> Reply {
        let call = format!("{method} {path}");
        self.try_call(method, path, body).await.unwrap_or_else(|error| panic!("{call}: {error:?}"))
    }
}

impl Reply {
    /// The body of an answer with this status.
    ///
    /// # Panics
    /// Where the status is another one.
    #[track_caller]
    pub fn expect_status(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{} answered {}", self.call, self.body);
        self.body
    }
}

/// A client that follows no redirects and uses no proxy.
#[must_use]
pub fn http_client() -> reqwest::Client {
    let builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    builder.build().unwrap_or_else(|error| panic!("cannot make an HTTP client: {error:?}"))
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
