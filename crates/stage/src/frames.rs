//! HTTP/2 frames by hand (RFC 9113, RFC 7541), for requests that no client library would send.
#![allow(clippy::indexing_slicing, reason = "a test's tool: what does not hold here is the test's failure")]

use crate::{During as _, Result};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// What a client says on one connection, frame by frame.
#[derive(Clone, Debug)]
pub struct Frames(Vec<u8>);

/// What the server did with the first stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It answered with this status.
    Status(u16),
    /// It reset the stream, or said goodbye to the connection.
    Reset,
    /// It closed the connection without either.
    Closed,
}

impl Default for Frames {
    /// The preface, and settings that are all default.
    fn default() -> Self {
        Self(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()).frame(4, 0, 0, &[])
    }
}

impl Frames {
    /// `HEADERS` on stream 1: a request's, or after a body its trailers.
    #[must_use]
    pub fn headers(self, fields: &[(&str, &[u8])], end: bool) -> Self {
        let mut block = Vec::new();
        for (name, value) in fields {
            // Literal, never indexed by us, new name.
            block.push(0);
            literal(&mut block, name.as_bytes());
            literal(&mut block, value);
        }
        self.frame(1, 4 | u8::from(end), 1, &block)
    }

    /// `DATA` on stream 1.
    #[must_use]
    pub fn data(self, bytes: &[u8], end: bool) -> Self {
        self.frame(0, u8::from(end), 1, bytes)
    }

    fn frame(mut self, kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Self {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
        self.0.extend_from_slice(&length[1..]);
        self.0.extend_from_slice(&[kind, flags, 0, 0, 0, stream]);
        self.0.extend_from_slice(payload);
        self
    }

    /// Sends them, and waits for what becomes of the stream.
    ///
    /// # Errors
    /// No connection, or nothing for 10 s.
    pub fn send(&self, port: u16) -> Result<Ending> {
        let deed = format!("talk HTTP/2 to 127.0.0.1:{port}");
        let mut socket = TcpStream::connect(("127.0.0.1", port)).during(&deed)?;
        socket.set_read_timeout(Some(Duration::from_secs(10))).during(&deed)?;
        socket.write_all(&self.0).during(&deed)?;
        loop {
            let mut head = [0; 9];
            if socket.read_exact(&mut head).is_err() {
                return Ok(Ending::Closed);
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).during(&deed)?];
            socket.read_exact(&mut payload).during(&deed)?;
            match head[3] {
                1 => {
                    return status(&payload)
                        .map(Ending::Status)
                        .ok_or(())
                        .map_err(|()| "no status")
                        .during(&deed);
                }
                3 | 7 => return Ok(Ending::Reset),
                _ => {}
            }
        }
    }
}

/// A string literal without Huffman coding.
fn literal(block: &mut Vec<u8>, text: &[u8]) {
    let mut left = text.len();
    if left < 127 {
        block.push(u8::try_from(left).unwrap_or(0));
    } else {
        block.push(127);
        left -= 127;
        while left >= 128 {
            block.push(u8::try_from(left % 128).unwrap_or(0) | 128);
            left /= 128;
        }
        block.push(u8::try_from(left).unwrap_or(0));
    }
    block.extend_from_slice(text);
}

/// The status of an answer: the first field of its header block, from the static table or as three digits.
fn status(block: &[u8]) -> Option<u16> {
    const STATIC: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    let mut block = block;
    // A change of the table's size may come before it; one of several bytes nobody sends here.
    while block.first()? & 0xe0 == 0x20 {
        if *block.first()? == 0x3f {
            return None;
        }
        block = &block[1..];
    }
    let first = *block.first()?;
    if first & 0x80 != 0 {
        return STATIC.get(usize::from(first & 0x7f).checked_sub(8)?).copied();
    }
    let (length, text) = (usize::from(block.get(1)? & 0x7f), block.get(2..)?);
    let text = text.get(..length)?;
    let digits = if block.get(1)? & 0x80 == 0 { text.to_vec() } else { huffman_digits(text) };
    std::str::from_utf8(digits.get(..3)?).ok()?.parse().ok()
}

/// Digits have codes of five bits (0 to 2) and six (3 to 9).
fn huffman_digits(text: &[u8]) -> Vec<u8> {
    let bits: Vec<u8> = text.iter().flat_map(|byte| (0..8).rev().map(move |n| byte >> n & 1)).collect();
    let number = |bits: &[u8]| bits.iter().fold(0, |sum, bit| sum << 1 | bit);
    let (mut at, mut digits) = (0, Vec::new());
    while at + 5 <= bits.len() && digits.len() < 3 {
        let short = number(&bits[at..at + 5]);
        if short < 3 {
            digits.push(b'0' + short);
            at += 5;
        } else {
            let Some(long) = bits.get(at..at + 6).map(number) else { break };
            digits.push(b'0' + long.wrapping_sub(0x16));
            at += 6;
        }
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_in_each_of_its_forms() {
        assert_eq!(status(&[0x88, 1, 2]), Some(200));
        assert_eq!(status(&[0x3f, 0x8d, 0x8d]), None, "a size of several bytes is not understood");
        assert_eq!(status(&[0x20, 0x8d]), Some(404));
        assert_eq!(status(&[0x48, 3, b'4', b'0', b'3', 0x88]), Some(403));
        // RFC 7541, appendix C.6.1: 302 in Huffman coding.
        assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), Some(302));
        assert_eq!(status(&[]), None);
    }
}
