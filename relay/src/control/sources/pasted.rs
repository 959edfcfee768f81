//! Reads a request that a caller pastes: its parts, a raw HTTP message, or a curl command.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use shared::decision::{Head, USUAL_METHOD};
use shared::header::HeaderList;
use utoipa::ToSchema;

use crate::control::fields::Problems;
use crate::control::given::{self, GivenHeader};
use crate::control::time::Timestamp;

/// A request to check. Its parts are given one by one, or together as `raw` or `curl`.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckRequest {
    /// The HTTP method. Default: `POST`.
    #[schema(pattern = "^[A-Z]{1,20}$")]
    pub method: Option<String>,
    /// The URL to which the request was sent, or its path and query. Default: the `ingest_url` of the source.
    #[schema(pattern = "^(https?://|/)[!-~]*$")]
    pub url: Option<String>,
    /// All headers of the request.
    #[schema(max_items = 200)]
    pub headers: Option<Vec<GivenHeader>>,
    /// The body as text, exactly as it was sent.
    pub body: Option<String>,
    /// The body in base64.
    #[schema(content_encoding = "base64", pattern = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$")]
    pub body_base64: Option<String>,
    /// The whole request as an HTTP/1.1 message: the request line, the headers, an empty line, and the body.
    pub raw: Option<String>,
    /// A curl command that sends the request. It understands `-X`, `-H`, `-d` in all forms, `-u` and `--url`.
    pub curl: Option<String>,
    /// When the request was received (RFC 3339). Signed times are compared with it. Default: now.
    #[schema(value_type = Option<Timestamp>)]
    pub received_at: Option<String>,
}

const NO_REQUEST_LINE: &str =
    "does not begin with a request line: a method in capital letters, a path or URL, and the version HTTP/1.1";

/// A request that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pasted {
    pub(super) method: String,
    /// The whole URL, or a path with its query; `None` if it was not given.
    pub(super) url: Option<String>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Pasted {
    /// The head of the request, at `ingest_url` if the request names no whole URL.
    pub(super) fn head(&self, ingest_url: &str) -> Head {
        let url = match self.url.as_deref() {
            None => ingest_url.to_owned(),
            Some(path) if path.starts_with('/') => {
                let query = path.split_once('?').map(|(_, query)| format!("?{query}")).unwrap_or_default();
                format!("{ingest_url}{query}")
            }
            Some(whole) => whole.to_owned(),
        };
        let mut headers = self.headers.clone();
        let has = |name: &str| self.headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
        // The edge decides by the announced size too, and a pasted request often lacks this header.
        if !has("content-length") && !has("transfer-encoding") && !self.body.is_empty() {
            headers.push(("content-length".to_owned(), self.body.len().to_string()));
        }
        Head { method: self.method.clone(), url, headers: HeaderList::new(headers) }
    }
}

/// Reads a request. Problems are noted.
pub(super) fn read(request: CheckRequest, problems: &mut Problems) -> Option<Pasted> {
    let CheckRequest { method, url, headers, body, body_base64, raw, curl, received_at: _ } = request;
    let has_parts = method.is_some() || url.is_some() || headers.is_some() || body.is_some() || body_base64.is_some();
    match (raw, curl) {
        (Some(_), Some(_)) => {
            problems.add("curl", "cannot be combined with raw; omit one of them");
            None
        }
        (Some(_), None) if has_parts => {
            problems.add("raw", "is the whole request; omit method, url, headers and the body");
            None
        }
        (None, Some(_)) if has_parts => {
            problems.add("curl", "is the whole request; omit method, url, headers and the body");
            None
        }
        (Some(raw), None) => noted("raw", read_raw(&raw), problems),
        (None, Some(command)) => noted("curl", read_curl(&command), problems),
        (None, None) => {
            if url.as_deref().is_some_and(|url| !is_url_or_path(url)) {
                problems.add("url", "must be an http or https URL, or a path that begins with /");
            }
            let method = given::method("method", method, problems);
            let headers = given::headers("headers", headers.unwrap_or_default(), problems);
            let headers = headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            let body = given::body("", body, body_base64, problems)?;
            Some(Pasted { method, url, headers, body })
        }
    }
}

fn noted(field: &str, read: Result<Pasted, String>, problems: &mut Problems) -> Option<Pasted> {
    let checked = read.and_then(|pasted| match &pasted.url {
        Some(url) if !is_url_or_path(url) => Err("names no http or https URL and no path".to_owned()),
        Some(_) | None => Ok(pasted),
    });
    checked.map_err(|problem| problems.add(field, problem)).ok()
}

fn is_url_or_path(url: &str) -> bool {
    let is_whole = url.starts_with("https://") || url.starts_with("http://");
    (is_whole || url.starts_with('/')) && url.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Reads an HTTP/1.1 message. Its lines end with CRLF or LF.
fn read_raw(text: &str) -> Result<Pasted, String> {
    let (head, body) = match (text.find("\r\n\r\n"), text.find("\n\n")) {
        (Some(crlf), lf) if lf.is_none_or(|lf| crlf < lf) => (text.get(..crlf), text.get(crlf + 4..)),
        (_, Some(lf)) => (text.get(..lf), text.get(lf + 2..)),
        (_, None) => (Some(text.trim_end_matches(['\r', '\n'])), None),
    };
    let mut lines = head.unwrap_or_default().lines();
    let first = lines.next().unwrap_or_default();
    let mut words = first.split(' ');
    let (method, url, version) = (words.next(), words.next(), words.next());
    let (Some(method), Some(url), Some(version)) = (method, url, version) else {
        return Err(NO_REQUEST_LINE.to_owned());
    };
    let is_method = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase());
    if !is_method || !version.starts_with("HTTP/") {
        return Err(NO_REQUEST_LINE.to_owned());
    }
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(|| format!("has a line that is no header: {line:?}"))?;
        headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    let body = body.unwrap_or_default().as_bytes().to_vec();
    Ok(Pasted { method: method.to_owned(), url: Some(url.to_owned()), headers, body })
}

/// Reads a curl command as a POSIX shell and curl would.
fn read_curl(command: &str) -> Result<Pasted, String> {
    let mut words = words(command)?.into_iter();
    if words.next().as_deref() != Some("curl") {
        return Err("does not begin with curl".to_owned());
    }
    let (mut method, mut url, mut headers, mut data) = (None, None, Vec::new(), Vec::new());
    while let Some(word) = words.next() {
        let (flag, attached) = split_flag(&word);
        let mut value =
            || attached.map(str::to_owned).or_else(|| words.next()).ok_or_else(|| format!("{flag} has no value"));
        match flag {
            "-X" | "--request" => method = Some(value()?),
            "--url" => url = Some(value()?),
            "-H" | "--header" => {
                let header = value()?;
                let (name, value) = header.split_once(':').ok_or_else(|| format!("{header:?} is no header"))?;
                headers.push((name.trim().to_owned(), value.trim().to_owned()));
            }
            "-A" | "--user-agent" => headers.push(("user-agent".to_owned(), value()?)),
            "-u" | "--user" => {
                headers.push(("authorization".to_owned(), format!("Basic {}", BASE64.encode(value()?))));
            }
            "-d" | "--data" | "--data-ascii" | "--data-binary" => data.push(from_text(value()?)?),
            "--data-raw" => data.push(value()?),
            "-o" | "--output" | "-m" | "--max-time" | "--connect-timeout" | "--retry" => drop(value()?),
            "-i" | "-s" | "-S" | "-sS" | "-v" | "-k" | "-L" | "-f" | "--include" | "--silent" | "--show-error"
            | "--verbose" | "--insecure" | "--location" | "--fail" | "--compressed" | "--http1.1" | "--http2" => {}
            other if other.starts_with('-') => {
                return Err(format!("has the option {other}, which is not understood here; give the parts one by one"));
            }
            _ if url.is_none() => url = Some(word.clone()),
            _ => return Err(format!("has a second URL: {word:?}")),
        }
    }
    let has = |name: &str| headers.iter().any(|(given, _): &(String, String)| given.eq_ignore_ascii_case(name));
    if !data.is_empty() && !has("content-type") {
        headers.push(("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned()));
    }
    let usual = if data.is_empty() { http::Method::default().to_string() } else { USUAL_METHOD.to_owned() };
    let url = url.ok_or("names no URL")?;
    Ok(Pasted { method: method.unwrap_or(usual), url: Some(url), headers, body: data.join("&").into_bytes() })
}

/// An option and the value that is attached to it: `-XPUT`, `--url=…`.
fn split_flag(word: &str) -> (&str, Option<&str>) {
    if word.starts_with("--") {
        return word.split_once('=').map_or((word, None), |(flag, value)| (flag, Some(value)));
    }
    let takes_value = ["-X", "-H", "-d", "-u", "-A", "-o", "-m"];
    match takes_value.iter().find(|flag| word.len() > 2 && word.starts_with(**flag)) {
        Some(flag) => (flag, word.get(2..)),
        None => (word, None),
    }
}

/// The data of an option that can also name a file, which is not here.
fn from_text(data: String) -> Result<String, String> {
    if data.starts_with('@') {
        return Err("reads its body from a file; put the content of the file into the command".to_owned());
    }
    Ok(data)
}

/// The words of a shell command: quotes are removed, and a backslash at the end of a line continues it.
fn words(command: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = command.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next() {
                        Some('\'') => break,
                        Some(quoted) => word.push(quoted),
                        None => return Err("has a quote that does not end".to_owned()),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next() {
                        Some('"') => break,
                        Some('\\') => match characters.next() {
                            Some('\n') => {}
                            Some(escaped @ ('"' | '\\' | '$' | '`')) => word.push(escaped),
                            Some(other) => word.extend(['\\', other]),
                            None => return Err("has a quote that does not end".to_owned()),
                        },
                        Some(quoted) => word.push(quoted),
                        None => return Err("has a quote that does not end".to_owned()),
                    }
                }
            }
            '$' if characters.peek() == Some(&'\'') => {
                return Err("has a text in $'…', which is not understood here; give the parts one by one".to_owned());
            }
            '\\' => match characters.next() {
                Some('\n') => {}
                Some('\r') if characters.peek() == Some(&'\n') => drop(characters.next()),
                Some(escaped) => word.get_or_insert_default().push(escaped),
                None => {}
            },
            blank if blank.is_whitespace() => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::fields::wrong_fields;

    fn header(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn a_raw_message_is_read_with_either_line_end_and_its_body_is_not_changed() {
        for (line, blank) in [("\r\n", "\r\n\r\n"), ("\n", "\n\n")] {
            let text = format!("PUT /in/a?b=1 HTTP/1.1{line}Host: x{line}X-A:  b c {blank}{{\"a\": 1}}\n\nend\r\n");
            let read = read_raw(&text).expect("a request");
            assert_eq!((read.method.as_str(), read.url.as_deref()), ("PUT", Some("/in/a?b=1")));
            assert_eq!(read.headers, [header("Host", "x"), header("X-A", "b c")]);
            assert_eq!(read.body, b"{\"a\": 1}\n\nend\r\n");
        }
        let bare = read_raw("GET / HTTP/2\n").expect("a request");
        assert_eq!((bare.headers.len(), bare.body.len()), (0, 0));
        for wrong in ["", "hello", "post / HTTP/1.1", "POST /", "POST / HTTP/1.1\nno header\n\n"] {
            assert!(read_raw(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_curl_command_is_read_as_a_shell_and_curl_would() {
        let read = read_curl(
            "curl -i 'https://edge.example/in/a' \\\n  -H 'X-Sign: it'\\''s' -H \"x-b: \\\"c\\\"\" --data-binary '{\"a\":1}'",
        )
        .expect("a request");
        assert_eq!((read.method.as_str(), read.url.as_deref()), ("POST", Some("https://edge.example/in/a")));
        assert_eq!(read.headers[..2], [header("X-Sign", "it's"), header("x-b", "\"c\"")]);
        assert_eq!(read.headers[2], header("content-type", "application/x-www-form-urlencoded"));
        assert_eq!(read.body, b"{\"a\":1}");
        let put = read_curl("curl --url=http://a/ -XPUT -u user:pass -d a=1 -d b=2").expect("a request");
        assert_eq!((put.method.as_str(), put.body.as_slice()), ("PUT", b"a=1&b=2".as_slice()));
        assert_eq!(put.headers[0], header("authorization", "Basic dXNlcjpwYXNz"));
        assert_eq!(read_curl("curl http://a/").expect("a request").method, "GET");
        for wrong in [
            "wget a",
            "curl",
            "curl 'a",
            "curl a b",
            "curl --upload-file x a",
            "curl -d @file a",
            "curl -H x a",
            "curl -d",
        ] {
            assert!(read_curl(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_request_is_given_in_one_form() {
        let mut problems = Problems::default();
        let text = |text: &str| Some(text.to_owned());
        for request in [
            CheckRequest { raw: text("x"), curl: text("x"), ..CheckRequest::default() },
            CheckRequest { raw: text("x"), method: text("PUT"), ..CheckRequest::default() },
            CheckRequest { curl: text("x"), body: text(""), ..CheckRequest::default() },
            CheckRequest { raw: text("x"), ..CheckRequest::default() },
            CheckRequest { url: text("ftp://x"), ..CheckRequest::default() },
            CheckRequest { curl: text("curl ftp://x"), ..CheckRequest::default() },
        ] {
            read(request, &mut problems);
        }
        let fields: Vec<_> = wrong_fields(problems.finish()).into_iter().map(|error| error.field).collect();
        assert_eq!(fields, ["curl", "raw", "curl", "raw", "url", "curl"]);
    }

    #[test]
    fn the_url_is_that_of_the_source_unless_a_whole_one_is_given() {
        let of = |url: Option<&str>| {
            let url = url.map(str::to_owned);
            let pasted = Pasted { method: "POST".to_owned(), url, headers: Vec::new(), body: b"ab".to_vec() };
            pasted.head("https://edge.example/in/src_1")
        };
        assert_eq!(of(None).url, "https://edge.example/in/src_1");
        assert_eq!(of(Some("/in/orders?a=1")).url, "https://edge.example/in/src_1?a=1");
        assert_eq!(of(Some("https://proxy.example/x")).url, "https://proxy.example/x");
        assert_eq!(of(None).declared(), Some(2));
    }
}
