//! The chunked coding of a request's body (RFC 9112, section 7.1), taken off while it arrives.
//!
//! Held strictly, as heads are: CRLF only, hexadecimal digits and nothing around them, no trailers.
//! Extensions are skipped, up to a bound. No I/O and no clock. Invariant: what is decoded, and what
//! frames it, both stay within their limits however the bytes are cut.

use super::request::{bad, body_too_large};
use crate::core::problem::Problem;
use crate::sys::limits::{CHUNK_FRAMING_BYTES_MAX, CHUNK_LINE_BYTES_MAX};

/// A body in the decoding.
#[derive(Debug, Default)]
pub struct Decoder {
    due: Due,
    /// Bytes of the chunk that are to come.
    left: usize,
    /// Bytes of data that the chunks so far have promised.
    promised: usize,
    body_bytes_max: usize,
    /// What has come of a line that is not data.
    line: Vec<u8>,
    /// Bytes that were not data, so far.
    framing_bytes: usize,
}

/// What comes next.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// A line that says how long a chunk is.
    #[default]
    Size,
    Data,
    /// The empty line behind a chunk.
    EndOfData,
    /// The empty line behind the last chunk, where a trailer could stand.
    End,
    Nothing,
}

/// `FFFFFFFF`: a body has at most a mebibyte, and zeros in front serve nobody.
const SIZE_DIGITS_MAX: usize = 8;

impl Decoder {
    /// For a body of at most `body_bytes_max`, decoded.
    pub fn new(body_bytes_max: usize) -> Self {
        Decoder { body_bytes_max, ..Decoder::default() }
    }

    /// Whether the body is whole. What follows is not of it.
    pub fn is_done(&self) -> bool {
        self.due == Due::Nothing
    }

    /// Takes bytes in the order they came: answers the next data among them, perhaps none, and the
    /// bytes not yet looked at, none unless there is data or the body is whole.
    ///
    /// # Errors
    /// 400 for what is no chunked body, 413 where the data would be over the limit.
    pub fn advance<'a>(&mut self, mut bytes: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), Problem> {
        while !self.is_done() {
            if self.due == Due::Data {
                let (data, rest) = bytes.split_at(self.left.min(bytes.len()));
                self.left -= data.len();
                if self.left == 0 {
                    self.due = Due::EndOfData;
                }
                return Ok((data, rest));
            }
            let Some((&byte, rest)) = bytes.split_first() else { break };
            bytes = rest;
            self.framing_bytes += 1;
            self.line.push(byte);
            if self.line.len() > CHUNK_LINE_BYTES_MAX
                || self.framing_bytes > CHUNK_FRAMING_BYTES_MAX
            {
                return Err(bad("Too much between the data of a chunked body"));
            }
            if byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                self.line_ended(&line)?;
            }
        }
        Ok((&[], bytes))
    }

    fn line_ended(&mut self, line: &[u8]) -> Result<(), Problem> {
        let line = line.strip_suffix(b"\r\n");
        let line = line.ok_or_else(|| bad("A line of a chunked body must end in CRLF"))?;
        self.due = match self.due {
            Due::Size => {
                self.left = size(line)?;
                self.promised += self.left;
                if self.promised > self.body_bytes_max {
                    return Err(body_too_large(self.body_bytes_max));
                }
                if self.left == 0 { Due::End } else { Due::Data }
            }
            Due::End if !line.is_empty() => return Err(bad("Trailers are not accepted")),
            _ if !line.is_empty() => return Err(bad("A chunk is longer than its size")),
            Due::EndOfData => Due::Size,
            _ => Due::Nothing,
        };
        Ok(())
    }
}

/// Hexadecimal digits, and behind a semicolon anything that can be seen: nothing in an extension means anything here.
fn size(line: &[u8]) -> Result<usize, Problem> {
    let end = line.iter().position(|byte| *byte == b';').unwrap_or(line.len());
    let (digits, extension) = line.split_at(end);
    let is_size = (1..=SIZE_DIGITS_MAX).contains(&digits.len())
        && digits.iter().all(u8::is_ascii_hexdigit)
        && extension.iter().all(|byte| matches!(byte, b'\t' | b' '..=0x7e | 0x80..));
    let digits = std::str::from_utf8(digits).ok().filter(|_| is_size);
    let size = digits.and_then(|digits| usize::from_str_radix(digits, 16).ok());
    size.ok_or_else(|| bad("A chunk's size must be 1 to 8 hexadecimal digits"))
}
