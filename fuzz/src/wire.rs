//! A request as the inputs write it: a few lines for the target itself, one with `?` and the query, the headers, an
//! empty line, and the body. In the headers and in the body `{tag}` is replaced by the right signature, because no
//! fuzzer finds one by chance.

use shared::header::HeaderList;
use shared::verify::RequestParts;

/// The time of every request: half a second past a whole one, Unix time in milliseconds.
pub(super) const NOW_MS: u64 = 1_700_000_000_500;

/// The placeholder of the signature.
pub(super) const TAG: &str = "{tag}";

/// A request, read from an input.
#[derive(Debug, Clone)]
pub(super) struct Wire {
    pub(super) url: String,
    pub(super) headers: HeaderList,
    pub(super) body: Vec<u8>,
}

impl Wire {
    /// Splits the first lines off, as many as the target has a use for, and reads the rest as a request.
    pub(super) fn read<const N: usize>(data: &[u8]) -> Option<([String; N], Self)> {
        let at = data.windows(2).position(|pair| pair == b"\n\n")?;
        let head = String::from_utf8_lossy(&data[..at]).into_owned();
        let mut lines = head.split('\n').map(str::to_owned);
        let mut own = [const { String::new() }; N];
        for line in &mut own {
            *line = lines.next()?;
        }
        let query = lines.next().filter(|query| query != "?").unwrap_or_default();
        let headers = lines.filter_map(|line| line.split_once(": ").map(|(n, v)| (n.to_owned(), v.to_owned())));
        let headers = HeaderList::new(headers.collect::<Vec<_>>());
        Some((own, Self { url: format!("https://in.example/in/a{query}"), headers, body: data[at + 2..].to_vec() }))
    }

    pub(super) fn query(&self) -> &str {
        self.url.split_once('?').map_or("", |(_, query)| query)
    }

    pub(super) fn parts(&self) -> RequestParts<'_> {
        RequestParts { method: "POST", url: &self.url, query: self.query(), headers: &self.headers }
    }

    /// The same with the signature in its place in the headers.
    pub(super) fn with_tag(&self, tag: &str) -> Self {
        let headers = self.headers.iter().map(|(name, value)| (name, value.replace(TAG, tag)));
        Self { headers: HeaderList::new(headers), ..self.clone() }
    }
}
