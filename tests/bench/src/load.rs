//! A load generator with little overhead: it sends the same request repeatedly on a number of connections, and each
//! connection waits for its response before it sends again (closed loop). It finds the maximum of a server. It does not
//! measure the latency under a given load.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use harness::error::{Doing as _, Result};

/// The result of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    pub answers: u64,
    /// Responses that were not 2xx.
    pub refused: u64,
    pub elapsed: Duration,
}

impl Load {
    /// Responses per second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let answers = self.answers as f64;
        answers / self.elapsed.as_secs_f64()
    }
}

/// Builds the bytes of a POST request.
#[must_use]
pub fn request(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n", body.len()).into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// Sends `request` on `connections` connections for `time`.
///
/// # Errors
/// Returns an error if a connection cannot be opened, or breaks.
pub async fn run(address: SocketAddr, request: Vec<u8>, connections: usize, time: Duration) -> Result<Load> {
    let request = Arc::new(request);
    let begun = Instant::now();
    let senders: Vec<_> =
        (0..connections).map(|_| tokio::spawn(connection(address, Arc::clone(&request), begun + time))).collect();
    let (mut answers, mut refused) = (0, 0);
    for sender in senders {
        let (answered, not_accepted) =
            sender.await.doing(|| "a connection of the load generator ended".to_owned())??;
        answers += answered;
        refused += not_accepted;
    }
    Ok(Load { answers, refused, elapsed: begun.elapsed() })
}

async fn connection(address: SocketAddr, request: Arc<Vec<u8>>, until: Instant) -> Result<(u64, u64)> {
    let doing = || format!("the connection to {address} broke");
    let mut stream = TcpStream::connect(address).await.doing(doing)?;
    stream.set_nodelay(true).doing(doing)?;
    let (mut answers, mut refused) = (0, 0);
    let mut buffer = Vec::with_capacity(4096);
    while Instant::now() < until {
        stream.write_all(&request).await.doing(doing)?;
        buffer.clear();
        loop {
            if stream.read_buf(&mut buffer).await.doing(doing)? == 0 {
                return Err(harness::error::Error::new("the server closed a connection under load"));
            }
            if let Some(accepted) = complete(&buffer) {
                answers += 1;
                refused += u64::from(!accepted);
                break;
            }
        }
    }
    Ok((answers, refused))
}

/// Whether a response with a Content-Length has arrived completely, and if so, whether it is 2xx.
fn complete(buffer: &[u8]) -> Option<bool> {
    let head_end = buffer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&buffer[..head_end]).ok()?;
    let length: usize = head
        .lines()
        .find_map(|line| line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length")))
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0);
    (buffer.len() >= head_end + length).then(|| head.as_bytes().get(9) == Some(&b'2'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_complete_when_its_whole_body_has_arrived() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(complete(answer), Some(true));
        assert_eq!(complete(&answer[..answer.len() - 1]), None);
        assert_eq!(complete(&answer[..20]), None);
        assert_eq!(complete(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"), Some(false));
    }
}
