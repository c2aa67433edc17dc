//! Headers, bodies, properties, local replies, and calls: everything about a stream.

use super::{BAD_ARGUMENT, INTERNAL_FAILURE, NOT_FOUND, OK, Status};
use crate::memory::{Guest, decode, encode, give, read, read_text, write_u32};
use crate::state::State;
use crate::words::{Call, CallRefusal, Headers, Reply, first, text};
use wasmi::errors::LinkerError;
use wasmi::{Error, Linker};

pub(super) fn link(l: &mut Linker<State>) -> Result<(), LinkerError> {
    header_reading(l)?;
    header_writing(l)?;
    buffers(l)?;
    properties(l)?;
    control(l)?;
    calls(l)
}

/// The map that can be read now (Envoy's `getConstMap`).
fn readable(state: &State, map: u32) -> Option<&Headers> {
    if map == 6 {
        return state.answering.as_ref().map(|answer| &answer.headers).filter(|headers| !headers.is_empty());
    }
    let stream = state.stream()?;
    let way = if map < 2 { &stream.request } else { &stream.response };
    match map {
        0 | 2 => (way.open || stream.logging).then_some(&way.headers),
        1 | 3 => (way.trailers_seen || stream.logging).then_some(&way.trailers),
        _ => None,
    }
}

/// The map that can be changed now (Envoy's `getMap`): after headers have gone on there is none.
fn writable(state: &mut State, map: u32) -> Option<&mut Headers> {
    let stream = state.stream_mut()?;
    let way = if map < 2 { &mut stream.request } else { &mut stream.response };
    match map {
        0 | 2 => way.open.then_some(&mut way.headers),
        1 | 3 => way.trailers_seen.then_some(&mut way.trailers),
        _ => None,
    }
}

fn header_reading(l: &mut Linker<State>) -> Result<(), LinkerError> {
    l.func_wrap(
        "env",
        "proxy_get_header_map_pairs",
        |mut g: Guest<'_>, map: u32, at: u32, len_at: u32| -> Status {
            g.data_mut().note("proxy_get_header_map_pairs", map.to_string());
            let pairs = readable(g.data(), map).filter(|pairs| !pairs.is_empty()).map(encode);
            give(&mut g, &pairs.unwrap_or_default(), at, len_at)?;
            Ok(OK)
        },
    )?;
    l.func_wrap(
        "env",
        "proxy_get_header_map_value",
        |mut g: Guest<'_>, map: u32, key: u32, key_len: u32, at: u32, len_at: u32| -> Status {
            let key = read_text(&g, key, key_len)?.to_ascii_lowercase();
            g.data_mut().note("proxy_get_header_map_value", key.clone());
            let logging = g.data().stream().is_some_and(|stream| stream.logging);
            let value = match readable(g.data(), map) {
                None if !logging => return Ok(BAD_ARGUMENT),
                pairs => pairs.and_then(|pairs| first(pairs, &key)).map(<[u8]>::to_vec),
            };
            let Some(value) = value else { return Ok(NOT_FOUND) };
            give(&mut g, &value, at, len_at)?;
            Ok(OK)
        },
    )?;
    Ok(())
}

fn header_writing(l: &mut Linker<State>) -> Result<(), LinkerError> {
    let change = |replace: bool| {
        let name = if replace { "proxy_replace_header_map_value" } else { "proxy_add_header_map_value" };
        (name, move |mut g: Guest<'_>, map: u32, key: u32, key_len: u32, value: u32, len: u32| -> Status {
            let key = read_text(&g, key, key_len)?.to_ascii_lowercase();
            let value = read(&g, value, len)?;
            g.data_mut().note(name, key.clone());
            let Some(pairs) = writable(g.data_mut(), map) else { return Ok(BAD_ARGUMENT) };
            if replace {
                pairs.retain(|(name, _)| *name != key);
            }
            pairs.push((key, value));
            Ok(OK)
        })
    };
    for replace in [true, false] {
        let (name, function) = change(replace);
        l.func_wrap("env", name, function)?;
    }
    l.func_wrap(
        "env",
        "proxy_remove_header_map_value",
        |mut g: Guest<'_>, map: u32, key: u32, key_len: u32| -> Status {
            let key = read_text(&g, key, key_len)?.to_ascii_lowercase();
            g.data_mut().note("proxy_remove_header_map_value", key.clone());
            let Some(pairs) = writable(g.data_mut(), map) else { return Ok(BAD_ARGUMENT) };
            pairs.retain(|(name, _)| *name != key);
            Ok(OK)
        },
    )?;
    Ok(())
}

fn buffers(l: &mut Linker<State>) -> Result<(), LinkerError> {
    l.func_wrap(
        "env",
        "proxy_get_buffer_bytes",
        |mut g: Guest<'_>, buffer: u32, start: u32, max: u32, at: u32, len_at: u32| -> Status {
            let state = g.data_mut();
            state.note("proxy_get_buffer_bytes", buffer.to_string());
            let bytes = match buffer {
                0 => state.stream().map(|stream| stream.request.body.as_slice()),
                1 => state.stream().map(|stream| stream.response.body.as_slice()),
                4 => state.answering.as_ref().map(|a| a.body.as_slice()).filter(|body| !body.is_empty()),
                7 => state.configuration.as_deref(),
                _ => None,
            };
            let Some(bytes) = bytes else { return Ok(NOT_FOUND) };
            let Some(end) = start.checked_add(max) else { return Ok(BAD_ARGUMENT) };
            let place = |n: u32| usize::try_from(n).unwrap_or(usize::MAX).min(bytes.len());
            let part = bytes.get(place(start)..place(end)).unwrap_or_default().to_vec();
            give(&mut g, &part, at, len_at)?;
            Ok(OK)
        },
    )?;
    l.func_wrap(
        "env",
        "proxy_set_buffer_bytes",
        |mut g: Guest<'_>, buffer: u32, start: u32, length: u32, at: u32, len: u32| -> Status {
            let bytes = read(&g, at, len)?;
            let state = g.data_mut();
            state.note("proxy_set_buffer_bytes", buffer.to_string());
            if state.fixed_bodies {
                return Ok(INTERNAL_FAILURE);
            }
            let body = match buffer {
                0 => state.stream_mut().filter(|s| !s.logging).map(|s| &mut s.request.body),
                1 => state.stream_mut().filter(|s| !s.logging).map(|s| &mut s.response.body),
                _ => None,
            };
            let Some(body) = body else { return Ok(BAD_ARGUMENT) };
            Ok(if replace(body, start, length, &bytes) { OK } else { BAD_ARGUMENT })
        },
    )?;
    Ok(())
}

/// As Envoy's `Buffer::copyFrom`: the whole of it is replaced, or something is put before or behind it.
fn replace(body: &mut Vec<u8>, start: u32, length: u32, bytes: &[u8]) -> bool {
    let place = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
    match (place(start), place(length)) {
        (0, 0) => drop(body.splice(..0, bytes.iter().copied())),
        (0, length) if length >= body.len() => *body = bytes.to_vec(),
        (start, _) if start > 0 && start >= body.len() => body.extend_from_slice(bytes),
        _ => return false,
    }
    true
}

fn properties(l: &mut Linker<State>) -> Result<(), LinkerError> {
    l.func_wrap(
        "env",
        "proxy_get_property",
        |mut g: Guest<'_>, path: u32, path_len: u32, at: u32, len_at: u32| -> Status {
            let path = read(&g, path, path_len)?;
            g.data_mut().note("proxy_get_property", text(&path).replace('\0', "."));
            let stream = g.data().stream();
            let value = stream.and_then(|s| s.properties.get(&path).or_else(|| s.notes.get(&text(&path))));
            let Some(value) = value.cloned() else { return Ok(NOT_FOUND) };
            give(&mut g, &value, at, len_at)?;
            Ok(OK)
        },
    )?;
    l.func_wrap(
        "env",
        "proxy_set_property",
        |mut g: Guest<'_>, path: u32, path_len: u32, value: u32, len: u32| -> Status {
            let (path, value) = (read_text(&g, path, path_len)?, read(&g, value, len)?);
            g.data_mut().note("proxy_set_property", path.clone());
            let Some(stream) = g.data_mut().stream_mut() else { return Ok(NOT_FOUND) };
            stream.notes.insert(path, value);
            Ok(OK)
        },
    )?;
    Ok(())
}

fn control(l: &mut Linker<State>) -> Result<(), LinkerError> {
    l.func_wrap("env", "proxy_set_effective_context", |mut g: Guest<'_>, context: u32| -> Status {
        let state = g.data_mut();
        if !state.exists(context) {
            return Ok(BAD_ARGUMENT);
        }
        state.effective = context;
        Ok(OK)
    })?;
    l.func_wrap("env", "proxy_continue_stream", |mut g: Guest<'_>, kind: u32| -> Status {
        let state = g.data_mut();
        state.note("proxy_continue_stream", kind.to_string());
        let Some(stream) = state.stream_mut() else { return Ok(OK) };
        let way = match kind {
            0 => &mut stream.request,
            1 => &mut stream.response,
            _ => return Ok(BAD_ARGUMENT),
        };
        // After a reply Envoy forgets the request, and a resume does nothing.
        if !way.paused && stream.reply.is_none() {
            return Err(Error::new("a stream is resumed that is not paused"));
        }
        way.go_on();
        way.misleads().map_or(Ok(OK), |how| Err(Error::new(how)))
    })?;
    l.func_wrap(
        "env",
        "proxy_send_local_response",
        |mut g: Guest<'_>,
         status: u32,
         _details: u32,
         _details_len: u32,
         body: u32,
         body_len: u32,
         pairs: u32,
         pairs_len: u32,
         _grpc: u32|
         -> Status {
            let (body, pairs) = (read(&g, body, body_len)?, read(&g, pairs, pairs_len)?);
            let headers = decode(&pairs).ok_or_else(|| Error::new("a reply's headers are not pairs"))?;
            let state = g.data_mut();
            state.note("proxy_send_local_response", status.to_string());
            let context = state.context();
            let Some(stream) = state.stream_mut() else { return Ok(OK) };
            if stream.logging {
                return Err(Error::new("a reply from on_log: Envoy recurses until it dies"));
            }
            if stream.reply.is_some() {
                return Err(Error::new("a second reply on one stream"));
            }
            stream.reply = Some(Reply { status, headers, body });
            state.replied.push(context);
            Ok(OK)
        },
    )?;
    Ok(())
}

fn calls(l: &mut Linker<State>) -> Result<(), LinkerError> {
    l.func_wrap(
        "env",
        "proxy_http_call",
        |mut g: Guest<'_>,
         cluster: u32,
         cluster_len: u32,
         pairs: u32,
         pairs_len: u32,
         body: u32,
         body_len: u32,
         _trailers: u32,
         _trailers_len: u32,
         timeout_ms: u32,
         token_at: u32|
         -> Status {
            let cluster = read_text(&g, cluster, cluster_len)?;
            let (pairs, body) = (read(&g, pairs, pairs_len)?, read(&g, body, body_len)?);
            let headers = decode(&pairs).ok_or_else(|| Error::new("a call's headers are not pairs"))?;
            let state = g.data_mut();
            state.note("proxy_http_call", first(&headers, ":path").map(text).unwrap_or_default());
            let whole = [":method", ":path", ":authority"].iter().all(|name| first(&headers, name).is_some());
            match state.refusal {
                _ if !whole => return Ok(BAD_ARGUMENT),
                Some(CallRefusal::UnknownCluster) => return Ok(BAD_ARGUMENT),
                Some(CallRefusal::NotSendable) => return Ok(INTERNAL_FAILURE),
                None => {}
            }
            state.last_token = state.last_token.saturating_add(1);
            let token = state.last_token;
            state.calls.push(Call { token, cluster, headers, body, timeout_ms });
            write_u32(&mut g, token_at, token)?;
            Ok(OK)
        },
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_replaced_whole_or_grows_at_its_ends() {
        let after = |start, length| {
            let mut body = b"body".to_vec();
            replace(&mut body, start, length, b"new").then(|| text(&body))
        };
        assert_eq!(after(0, 4).as_deref(), Some("new"));
        assert_eq!(after(0, u32::MAX).as_deref(), Some("new"));
        assert_eq!(after(0, 0).as_deref(), Some("newbody"));
        assert_eq!(after(4, 9).as_deref(), Some("bodynew"));
        assert_eq!((after(0, 3), after(1, 3)), (None, None));
        let mut empty = Vec::new();
        assert!(replace(&mut empty, 0, 7, b"new") && empty == b"new");
    }
}
