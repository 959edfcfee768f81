//! A client of `GET /v1/stream`, as the library of a browser is one: it reads server-sent events and knows the last
//! position.

use std::time::Duration;

use serde_json::Value;

use crate::api::{Api, Reply};

/// A part of a stream, up to an empty line.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Message {
    /// The name of the event; `None` if it has no data.
    pub event: Option<String>,
    pub id: Option<String>,
    pub data: Option<Value>,
    /// The text of a comment.
    pub comment: Option<String>,
    /// How long the client waits before it connects again, in milliseconds.
    pub retry_ms: Option<u64>,
}

impl Message {
    fn read(text: &str) -> Self {
        let mut message = Self::default();
        for line in text.lines() {
            match line.split_once(": ") {
                Some(("", comment)) => message.comment = Some(comment.to_owned()),
                Some(("event", name)) => message.event = Some(name.to_owned()),
                Some(("id", id)) => message.id = Some(id.to_owned()),
                Some(("data", data)) => message.data = serde_json::from_str(data).ok(),
                Some(("retry", time)) => message.retry_ms = time.parse().ok(),
                Some(_) | None => panic!("this line is no server-sent event: {line:?}"),
            }
        }
        message
    }
}

/// An open stream.
#[derive(Debug)]
pub struct Stream {
    response: reqwest::Response,
    buffer: Vec<u8>,
    /// The last position; empty before the first one.
    pub position: String,
}

impl Stream {
    /// The next message; `None` when the stream has ended or its connection is lost.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let text: Vec<u8> = self.buffer.drain(..end + 2).collect();
                let message = Message::read(String::from_utf8_lossy(&text).trim_end());
                if let Some(id) = &message.id {
                    self.position.clone_from(id);
                }
                return Some(message);
            }
            let chunk = self.response.chunk().await.ok().flatten()?;
            self.buffer.extend_from_slice(&chunk);
        }
    }

    /// The next change; `None` when the stream has ended or its connection is lost.
    pub async fn change(&mut self) -> Option<Value> {
        loop {
            if let Some(data) = self.next().await?.data {
                return Some(data);
            }
        }
    }

    /// Reads changes until one satisfies `is_last`, and returns them all.
    ///
    /// # Panics
    /// Panics after `timeout`, and if the stream ends before.
    pub async fn until(&mut self, timeout: Duration, is_last: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut changes = Vec::new();
        loop {
            let change = tokio::time::timeout(timeout, self.change()).await;
            let change = change.unwrap_or_else(|_| panic!("no further change within {timeout:?}: {changes:#?}"));
            changes.push(change.unwrap_or_else(|| panic!("the stream has ended: {changes:#?}")));
            if changes.last().is_some_and(&is_last) {
                return changes;
            }
        }
    }

    /// Reads this many changes.
    ///
    /// # Panics
    /// Same as [`Stream::until`].
    pub async fn take(&mut self, count: usize, timeout: Duration) -> Vec<Value> {
        let mut changes = Vec::new();
        while changes.len() < count {
            changes.extend(self.until(timeout, |_| true).await);
        }
        changes
    }
}

impl Api {
    /// Opens a stream, such as `/v1/stream?kind=event_stored`, after this position if one is given. Returns the response
    /// if it is no stream.
    ///
    /// # Errors
    /// Returns an error if there is no response.
    ///
    /// # Panics
    /// Panics if the response is 200 and of another type.
    pub async fn open_stream(&self, path: &str, last_event_id: Option<&str>) -> reqwest::Result<Result<Stream, Reply>> {
        let mut request = self.request(reqwest::Method::GET, path);
        if let Some(position) = last_event_id {
            request = request.header("last-event-id", position);
        }
        let response = request.send().await?;
        if response.status() != 200 {
            return Reply::read(format!("GET {path}"), response).await.map(Err);
        }
        let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok());
        assert_eq!(kind, Some("text/event-stream"));
        Ok(Ok(Stream { response, buffer: Vec::new(), position: String::new() }))
    }

    /// Like [`Api::open_stream`], of a relay that responds.
    ///
    /// # Errors
    /// Returns the response if it is no stream.
    ///
    /// # Panics
    /// Panics if there is no response.
    pub async fn try_stream(&self, path: &str, last_event_id: Option<&str>) -> Result<Stream, Reply> {
        let opened = self.open_stream(path, last_event_id).await;
        opened.unwrap_or_else(|error| panic!("GET {path}: {error:?}"))
    }

    /// Opens a stream and waits until it has begun.
    ///
    /// # Panics
    /// Panics if the response is no stream.
    pub async fn stream(&self, path: &str, last_event_id: Option<&str>) -> Stream {
        let opened = self.try_stream(path, last_event_id).await;
        let mut stream = opened.unwrap_or_else(|reply| panic!("no stream: {reply:?}"));
        let begun = stream.next().await.unwrap_or_else(|| panic!("the stream has ended"));
        assert!(begun.retry_ms.is_some() && begun.id.is_some() && begun.data.is_none(), "{begun:?}");
        stream
    }
}
