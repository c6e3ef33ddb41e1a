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
    state: State,
    /// The size that is being read, in so many digits; then what is left of the chunk.
    left: usize,
    digits: usize,
    /// Bytes of data that the chunks so far have promised.
    promised: usize,
    body_bytes_max: usize,
    /// Bytes of the size line that is being read.
    line_bytes: usize,
    /// Bytes that were not data, so far.
    framing_bytes: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    /// Behind a size's semicolon.
    Extension,
    /// Behind the CR of a size line.
    SizeLf,
    /// In a chunk, of which `left` bytes are to come.
    Data,
    /// Behind a chunk's last byte.
    DataCr,
    DataLf,
    /// Behind the last chunk, where a trailer could begin.
    EndCr,
    EndLf,
    Done,
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
        self.state == State::Done
    }

    /// Takes bytes in the order they came: answers the next data among them, perhaps none, and the
    /// bytes not yet looked at, none unless there is data or the body is whole.
    ///
    /// # Errors
    /// 400 for what is no chunked body, 413 where the data would be over the limit.
    pub fn advance<'a>(&mut self, mut bytes: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), Problem> {
        while self.state != State::Done {
            if self.state == State::Data {
                let (data, rest) = bytes.split_at(self.left.min(bytes.len()));
                self.left -= data.len();
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                return Ok((data, rest));
            }
            let Some((&byte, rest)) = bytes.split_first() else { break };
            self.framing(byte)?;
            bytes = rest;
        }
        Ok((&[], bytes))
    }

    /// A byte that is not data.
    fn framing(&mut self, byte: u8) -> Result<(), Problem> {
        self.framing_bytes += 1;
        self.line_bytes += 1;
        if self.line_bytes > CHUNK_LINE_BYTES_MAX || self.framing_bytes > CHUNK_FRAMING_BYTES_MAX {
            return Err(bad("Too much between the data of a chunked body"));
        }
        self.state = match (self.state, byte) {
            (State::Size, digit) if digit.is_ascii_hexdigit() => {
                if self.digits == SIZE_DIGITS_MAX {
                    return Err(bad("A chunk's size has over 8 digits"));
                }
                self.digits += 1;
                let value = char::from(digit).to_digit(16).unwrap_or_default();
                self.left = self.left * 16 + value as usize;
                State::Size
            }
            (State::Size, b';') if self.digits > 0 => State::Extension,
            (State::Size, b'\r') if self.digits > 0 => State::SizeLf,
            (State::Size, _) => return Err(bad("A chunk's size must be hexadecimal digits")),
            (State::Extension, b'\r') => State::SizeLf,
            // obs-text and every visible character: nothing in an extension means anything here.
            (State::Extension, b'\t' | b' '..=0x7e | 0x80..) => State::Extension,
            (State::SizeLf, b'\n') if self.left == 0 => State::EndCr,
            (State::SizeLf, b'\n') => {
                self.promised += self.left;
                if self.promised > self.body_bytes_max {
                    return Err(body_too_large(self.body_bytes_max));
                }
                State::Data
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                (self.digits, self.line_bytes) = (0, 0);
                State::Size
            }
            (State::DataCr | State::DataLf, _) => {
                return Err(bad("A chunk is longer than its size, or does not end in CRLF"));
            }
            (State::EndCr, b'\r') => State::EndLf,
            (State::EndCr, _) => return Err(bad("Trailers are not accepted")),
            (State::EndLf, b'\n') => State::Done,
            _ => return Err(bad("A line of a chunked body must end in CRLF")),
        };
        Ok(())
    }
}
