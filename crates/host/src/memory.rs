//! Bytes in and out of the module's memory, and the one encoding that the ABI has for lists of pairs.

use crate::state::State;
use crate::words::Headers;
use wasmi::{Caller, Error, Memory};

pub(crate) type Guest<'a> = Caller<'a, State>;

fn memory(guest: &Guest) -> Result<Memory, Error> {
    guest.data().memory.ok_or_else(|| Error::new("the module called its host before it had a memory"))
}

/// A copy of what lies at `at`. Envoy answers an error status, which the SDK turns into a panic: a trap either way.
pub(crate) fn read(guest: &Guest, at: u32, len: u32) -> Result<Vec<u8>, Error> {
    let range = usize::try_from(at).ok().zip(usize::try_from(len).ok());
    let bytes = range.and_then(|(at, len)| memory(guest).ok()?.data(guest).get(at..at.checked_add(len)?));
    bytes.map(<[u8]>::to_vec).ok_or_else(|| Error::new(format!("{len} bytes at {at} are not in memory")))
}

pub(crate) fn read_text(guest: &Guest, at: u32, len: u32) -> Result<String, Error> {
    read(guest, at, len).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

pub(crate) fn write(guest: &mut Guest, at: u32, bytes: &[u8]) -> Result<(), Error> {
    let at = usize::try_from(at).map_err(|_| Error::new("an address beyond memory"))?;
    memory(guest)?.write(guest, at, bytes).map_err(|_| Error::new(format!("nothing can be written at {at}")))
}

pub(crate) fn write_u32(guest: &mut Guest, at: u32, value: u32) -> Result<(), Error> {
    write(guest, at, &value.to_le_bytes())
}

pub(crate) fn write_u64(guest: &mut Guest, at: u32, value: u64) -> Result<(), Error> {
    write(guest, at, &value.to_le_bytes())
}

/// Hands bytes over in memory that the module allocates; nothing is allocated for nothing (cpp-host's
/// `copyToPointerSize`).
pub(crate) fn give(guest: &mut Guest, bytes: &[u8], at: u32, len_at: u32) -> Result<(), Error> {
    let len = u32::try_from(bytes.len()).map_err(|_| Error::new("more than memory can hold"))?;
    let mut place = 0;
    if len > 0 {
        let allocate = guest.data().allocate.ok_or_else(|| Error::new("the module has no allocator"))?;
        place = allocate.call(&mut *guest, len)?;
        write(guest, place, bytes)?;
    }
    write_u32(guest, at, place)?;
    write_u32(guest, len_at, len)
}

/// Count; then the lengths of each name and value; then each, ended by a zero byte. All numbers are u32, little endian.
pub(crate) fn encode(pairs: &Headers) -> Vec<u8> {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
    let mut bytes = number(pairs.len()).to_vec();
    for (name, value) in pairs {
        bytes.extend(number(name.len()));
        bytes.extend(number(value.len()));
    }
    for part in pairs.iter().flat_map(|(name, value)| [name.as_bytes(), value]) {
        bytes.extend_from_slice(part);
        bytes.push(0);
    }
    bytes
}

/// The reverse of [`encode`]; `None` if the bytes are not that.
pub(crate) fn decode(bytes: &[u8]) -> Option<Headers> {
    if bytes.is_empty() {
        return Some(Headers::new());
    }
    let (count, rest) = bytes.split_first_chunk()?;
    let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
    let (lengths, mut rest) = rest.split_at_checked(count.checked_mul(8)?)?;
    let mut part = |len: &[u8]| {
        let len = usize::try_from(u32::from_le_bytes(len.try_into().ok()?)).ok()?;
        let (part, after) = rest.split_at_checked(len)?;
        rest = after.strip_prefix(&[0])?;
        Some(part.to_vec())
    };
    let pair = |lengths: &[u8]| {
        let (name, value) = lengths.split_at_checked(4)?;
        Some((String::from_utf8(part(name)?).ok()?.to_ascii_lowercase(), part(value)?))
    };
    lengths.chunks_exact(8).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::headers;

    #[test]
    fn pairs_come_back_as_they_went() {
        let pairs = headers(&[("a", b"1".as_slice()), ("b", b"\xff\0"), ("c", b"")]);
        assert_eq!(decode(&encode(&pairs)), Some(pairs.clone()));
        assert_eq!(decode(&[]), Some(Vec::new()));
        let bytes = encode(&pairs);
        assert!((1..bytes.len()).all(|cut| decode(&bytes[..cut]).is_none()));
    }
}
