//! Parses the head of a response over HTTP/1 as its bytes arrive, in parallel with the HTTP client.
//!
//! The relay needs two things that the client does not report. The first is the status of a head that the client cannot
//! parse: a destination that has answered 200 has the event, however malformed its headers are. The second is whether
//! the head is exactly what RFC 9112 allows. If it is not, the client and the destination may disagree about the end of
//! the response, and the bytes after it could be taken for the response to the next request. No request follows on such
//! a connection.

use http::StatusCode;

/// The length of a status line up to its status: `HTTP/1.1 200` and the byte that ends the number.
const STATUS_BYTES: usize = 13;

/// The length of the longest header name that matters here: `transfer-encoding`.
const NAME_BYTES: usize = 17;

/// The bytes of the response to one request so far.
#[derive(Debug, Default)]
pub(super) struct Head {
    place: Place,
    /// Whether any byte has arrived.
    heard: bool,
    /// Whether the last byte was a carriage return, which a line feed must follow.
    after_cr: bool,
    /// Whether the present head is that of an interim response.
    interim: bool,
    /// Of the final response.
    status: Option<StatusCode>,
    framing: Framing,
    odd: bool,
}

/// Where in the head the next byte is.
#[derive(Debug)]
enum Place {
    Status {
        line: [u8; STATUS_BYTES],
        length: usize,
    },
    Reason,
    LineStart,
    Name {
        name: [u8; NAME_BYTES],
        length: usize,
    },
    Value {
        is_length: bool,
    },
    /// After the carriage return of the empty line.
    End,
    /// Nothing more is parsed: the head is complete, or this is not HTTP.
    Over,
}

impl Default for Place {
    fn default() -> Self {
        Self::Status { line: [0; STATUS_BYTES], length: 0 }
    }
}

/// The headers that determine where the response ends.
#[derive(Debug, Default)]
struct Framing {
    lengths: usize,
    /// Whether a length is more than 0.
    has_length: bool,
    encodings: usize,
}

impl Head {
    /// Parses the next bytes that were read.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        self.heard |= !bytes.is_empty();
        let mut rest = bytes;
        while let [byte, after @ ..] = rest
            && !matches!(self.place, Place::Over)
        {
            self.step(*byte);
            rest = after.get(self.plain(after)..).unwrap_or_default();
        }
    }

    /// Whether any byte of a response has arrived.
    pub(super) fn is_heard(&self) -> bool {
        self.heard
    }

    /// The status of the final response, once its number has arrived.
    pub(super) fn status(&self) -> Option<StatusCode> {
        self.status
    }

    /// Whether another request may follow: no byte has arrived, or the whole head conforms to RFC 9112.
    pub(super) fn is_clean(&self) -> bool {
        !self.heard || (matches!(self.place, Place::Over) && !self.odd)
    }

    /// How many of these bytes have no meaning at this place. Most of a head is the values of headers.
    fn plain(&self, bytes: &[u8]) -> usize {
        let in_text = matches!(self.place, Place::Reason | Place::Value { is_length: false });
        if !in_text || self.after_cr {
            return 0;
        }
        bytes.iter().position(u8::is_ascii_control).unwrap_or(bytes.len())
    }

    fn step(&mut self, byte: u8) {
        let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
        self.odd |= after_cr && byte != b'\n';
        self.odd |= byte == b'\n' && !after_cr;
        match &mut self.place {
            Place::Status { length: 0, .. } if matches!(byte, b'\r' | b'\n') => self.odd = true,
            Place::Status { line, length } => {
                line[*length] = byte;
                *length += 1;
                if *length == STATUS_BYTES {
                    let line = *line;
                    self.status_line(line);
                }
            }
            Place::Reason if byte == b'\n' => self.place = Place::LineStart,
            Place::Reason => self.odd |= is_control(byte),
            Place::LineStart => self.line_start(byte),
            Place::Name { name, length } => match byte {
                b':' => {
                    let is_length = self.framing.count(name.get(..*length).unwrap_or_default());
                    self.place = Place::Value { is_length };
                }
                b'\n' => {
                    self.odd = true;
                    self.place = Place::LineStart;
                }
                byte => {
                    self.odd |= !is_token(byte);
                    if let Some(at) = name.get_mut(*length) {
                        *at = byte.to_ascii_lowercase();
                    }
                    // At most one more than the array holds: such a name is none of those that matter.
                    *length = (*length + 1).min(NAME_BYTES + 1);
                }
            },
            Place::Value { .. } if byte == b'\n' => self.place = Place::LineStart,
            Place::Value { is_length } => {
                self.odd |= is_control(byte);
                if *is_length {
                    self.odd |= !matches!(byte, b'0'..=b'9' | b' ' | b'\t' | b'\r');
                    self.framing.has_length |= matches!(byte, b'1'..=b'9');
                }
            }
            Place::End if byte == b'\n' => self.end(),
            Place::End => self.place = Place::Value { is_length: false },
            Place::Over => {}
        }
    }

    fn status_line(&mut self, line: [u8; STATUS_BYTES]) {
        let Some(status) = status(line) else {
            self.odd = true;
            self.place = Place::Over;
            return;
        };
        // 101 ends the exchange of requests and responses.
        self.interim = status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS;
        self.status = Some(status).filter(|_| !self.interim);
        self.place = if self.after_cr || line.last() == Some(&b' ') { Place::Reason } else { Place::LineStart };
    }

    fn line_start(&mut self, byte: u8) {
        self.place = match byte {
            b'\r' => Place::End,
            b'\n' => return self.end(),
            // A continuation of the line before, or a line without a name.
            b' ' | b'\t' | b':' => {
                self.odd = true;
                Place::Value { is_length: false }
            }
            byte => {
                self.odd |= !is_token(byte);
                let mut name = [0; NAME_BYTES];
                name[0] = byte.to_ascii_lowercase();
                Place::Name { name, length: 1 }
            }
        };
    }

    fn end(&mut self) {
        let framing = std::mem::take(&mut self.framing);
        let Some(status) = self.status else {
            self.odd |= framing.has_body();
            self.place = Place::default();
            return;
        };
        let has_none = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        self.odd |= framing.lengths + framing.encodings > 1 || (has_none && framing.has_body());
        self.place = Place::Over;
    }
}

impl Framing {
    /// Counts a header. Returns whether it is a length.
    fn count(&mut self, name: &[u8]) -> bool {
        let is_length = name == b"content-length";
        self.lengths += usize::from(is_length);
        self.encodings += usize::from(name == b"transfer-encoding");
        is_length
    }

    fn has_body(&self) -> bool {
        self.has_length || self.encodings > 0
    }
}

/// The status of a status line, given its first bytes.
fn status(line: [u8; STATUS_BYTES]) -> Option<StatusCode> {
    match line {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0'..=b'9', b' ', code @ .., b' ' | b'\r' | b'\n'] => {
            StatusCode::from_bytes(&code).ok()
        }
        _ => None,
    }
}

/// Whether a name may contain this byte (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether neither a value nor a reason may contain this byte. The carriage return is checked elsewhere.
fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && !matches!(byte, b'\t' | b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses a head in one piece, and byte by byte: both must give the same result.
    fn read(text: &[u8]) -> (Option<u16>, bool) {
        let (mut whole, mut bytes) = (Head::default(), Head::default());
        whole.read(text);
        text.iter().for_each(|byte| bytes.read(&[*byte]));
        let seen = |head: &Head| (head.status().map(|status| status.as_u16()), head.is_clean());
        assert_eq!(seen(&whole), seen(&bytes), "{}", String::from_utf8_lossy(text));
        seen(&whole)
    }

    #[test]
    fn the_heads_of_ordinary_servers_are_clean() {
        for (text, status) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 200),
            ("HTTP/1.1 200 \r\nContent-Length: 0\r\nX-A:b\r\nx-a: \r\n\r\n", 200),
            ("HTTP/1.1 200\r\nServer: a b\tc\r\n\r\n", 200),
            ("HTTP/1.0 503 Service Unavailable\r\nconnection: keep-alive\r\n\r\n", 503),
            ("HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n", 204),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 201 \r\n\r\n", 201),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n", 101),
        ] {
            assert_eq!(read(text.as_bytes()), (Some(status), true), "{text}");
        }
        let latin_1 = b"HTTP/1.1 200 Gr\xfc\xdf\r\nx-name: M\xfcller\r\n\r\n";
        assert_eq!(read(latin_1), (Some(200), true));
    }

    #[test]
    fn a_malformed_head_has_a_status_and_no_request_follows_it() {
        let long = "x".repeat(20_000);
        for lines in [
            "X-Powered-By : PHP\r\n",
            "X-Broken\r\n",
            "X-Fold: a\r\n b\r\n",
            "X Name: a\r\n",
            ": a\r\n",
            "x: a\0b\r\n",
            "x: a\rb\r\n",
            "x: a\n",
            "Content-Length: 2\r\nContent-Length: 2\r\n",
            "Content-Length: 2\r\ncontent-length: 3\r\n",
            "Content-Length: 2, 2\r\n",
            "Content-Length: -1\r\n",
            "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            &format!("{long}\r\n"),
        ] {
            let text = format!("HTTP/1.1 200 OK\r\n{lines}\r\nok");
            assert_eq!(read(text.as_bytes()), (Some(200), false), "{lines}");
        }
        for text in [
            "HTTP/1.1 200 OK\n\nok",
            "HTTP/1.1 200\n\r\n",
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx: cut",
            "HTTP/1.1 200 ",
            "HTTP/1.1 100 Continue\r\ncontent-length: 5\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        ] {
            assert_eq!(read(text.as_bytes()), (Some(200), false), "{text}");
        }
        for text in [
            "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n",
            "HTTP/1.1 204 \r\ntransfer-encoding: chunked\r\n\r\n",
        ] {
            assert_eq!(read(text.as_bytes()), (Some(204), false), "{text}");
        }
        // Many headers and long ones are not malformed.
        let many = format!("HTTP/1.1 200 OK\r\n{}x-long: {long}\r\n\r\n", "Set-Cookie: c=1\r\n".repeat(2_000));
        assert_eq!(read(many.as_bytes()), (Some(200), true));
    }

    #[test]
    fn an_invalid_status_line_has_no_status() {
        for text in [
            "220 smtp ready\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/3.0 200 OK\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/1.1 000 OK\r\n\r\n",
            "HTTP/1.1  200 OK\r\n\r\n",
            "http/1.1 200 OK\r\n\r\n",
            "SSH-2.0-OpenSSH_9.6\r\n",
            "HTTP/1.1 200",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 100 Continue\r\nHTTP/1.1 200 OK\r\n",
            "\x15\x03\x01\x00\x02\x02\x46",
        ] {
            assert_eq!(read(text.as_bytes()), (None, false), "{text}");
        }
        assert_eq!(read(b""), (None, true));
    }

    #[test]
    fn bytes_after_the_head_change_nothing() {
        let mut head = Head::default();
        head.read(b"HTTP/1.1 200 OK\r\ncontent-length: 30\r\n\r\n");
        head.read(b"HTTP/1.1 500 Internal Server Error\r\nx : y\r\n\r\n");
        assert_eq!((head.status(), head.is_clean()), (Some(StatusCode::OK), true));
    }
}
