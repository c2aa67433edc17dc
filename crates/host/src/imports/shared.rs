//! What VMs share: data with compare-and-swap, queues, statistics.

use super::{BAD_ARGUMENT, CAS_MISMATCH, EMPTY, NOT_FOUND, OK, Status};
use crate::envoy::{Metric, MetricKind};
use crate::memory::{Guest, give, read, read_text, write_u32, write_u64};
use crate::state::{ROOT, State};
use crate::words::text;
use wasmi::Linker;
use wasmi::errors::LinkerError;

pub(super) fn link(l: &mut Linker<State>) -> Result<(), LinkerError> {
    data(l)?;
    queues(l)?;
    metrics(l)
}

fn data(l: &mut Linker<State>) -> Result<(), LinkerError> {
    l.func_wrap(
        "env",
        "proxy_get_shared_data",
        |mut g: Guest<'_>, key: u32, key_len: u32, at: u32, len_at: u32, cas_at: u32| -> Status {
            let key = read(&g, key, key_len)?;
            g.data_mut().note("proxy_get_shared_data", text(&key));
            let found = g.data().envoy.0.borrow().get(&key);
            let Some((value, cas)) = found else { return Ok(NOT_FOUND) };
            give(&mut g, &value, at, len_at)?;
            write_u32(&mut g, cas_at, cas)?;
            Ok(OK)
        },
    )?;
    l.func_wrap(
        "env",
        "proxy_set_shared_data",
        |mut g: Guest<'_>, key: u32, key_len: u32, value: u32, len: u32, cas: u32| -> Status {
            let (key, value) = (read(&g, key, key_len)?, read(&g, value, len)?);
            g.data_mut().note("proxy_set_shared_data", text(&key));
            let set = g.data().envoy.0.borrow_mut().set(&key, &value, cas);
            Ok(set.map_or(CAS_MISMATCH, |()| OK))
        },
    )?;
    Ok(())
}

fn queues(l: &mut Linker<State>) -> Result<(), LinkerError> {
    l.func_wrap(
        "env",
        "proxy_register_shared_queue",
        |mut g: Guest<'_>, name: u32, len: u32, at: u32| -> Status {
            let name = read(&g, name, len)?;
            g.data_mut().note("proxy_register_shared_queue", text(&name));
            // Envoy registers the root of whichever context asks.
            let registrant = (g.data().vm, ROOT);
            let token = g.data().envoy.0.borrow_mut().register(&name, registrant);
            write_u32(&mut g, at, token)?;
            Ok(OK)
        },
    )?;
    l.func_wrap(
        "env",
        "proxy_resolve_shared_queue",
        |mut g: Guest<'_>, _vm_id: u32, _vm_id_len: u32, name: u32, len: u32, at: u32| -> Status {
            let name = read(&g, name, len)?;
            g.data_mut().note("proxy_resolve_shared_queue", text(&name));
            let found = g.data().envoy.0.borrow().resolve(&name);
            let Some(token) = found else { return Ok(NOT_FOUND) };
            write_u32(&mut g, at, token)?;
            Ok(OK)
        },
    )?;
    l.func_wrap(
        "env",
        "proxy_dequeue_shared_queue",
        |mut g: Guest<'_>, token: u32, at: u32, len_at: u32| -> Status {
            g.data_mut().note("proxy_dequeue_shared_queue", token.to_string());
            let item = g.data().envoy.0.borrow_mut().dequeue(token);
            match item {
                None => Ok(NOT_FOUND),
                Some(None) => Ok(EMPTY),
                Some(Some(item)) => give(&mut g, &item, at, len_at).map(|()| OK),
            }
        },
    )?;
    l.func_wrap(
        "env",
        "proxy_enqueue_shared_queue",
        |mut g: Guest<'_>, token: u32, at: u32, len: u32| -> Status {
            let item = read(&g, at, len)?;
            g.data_mut().note("proxy_enqueue_shared_queue", token.to_string());
            let queued = g.data().envoy.0.borrow_mut().enqueue(token, item);
            Ok(if queued { OK } else { NOT_FOUND })
        },
    )?;
    Ok(())
}

fn metrics(l: &mut Linker<State>) -> Result<(), LinkerError> {
    l.func_wrap(
        "env",
        "proxy_define_metric",
        |mut g: Guest<'_>, kind: u32, name: u32, len: u32, at: u32| -> Status {
            let name = read_text(&g, name, len)?;
            let kind = match kind {
                0 => MetricKind::Counter,
                1 => MetricKind::Gauge,
                2 => MetricKind::Histogram,
                _ => return Ok(BAD_ARGUMENT),
            };
            let state = g.data_mut();
            state.note("proxy_define_metric", name.clone());
            let mut process = state.envoy.0.borrow_mut();
            process.metrics.entry(name.clone()).or_insert(Metric { kind, value: 0 });
            drop(process);
            state.metrics.push(name);
            let id = u32::try_from(state.metrics.len()).unwrap_or(u32::MAX);
            write_u32(&mut g, at, id)?;
            Ok(OK)
        },
    )?;
    l.func_wrap("env", "proxy_increment_metric", |mut g: Guest<'_>, id: u32, by: i64| -> Status {
        with_metric(&mut g, "proxy_increment_metric", id, |metric| {
            let value = metric.value.checked_add_signed(by);
            match (metric.kind, value) {
                (MetricKind::Counter, Some(value)) if by > 0 => metric.value = value,
                (MetricKind::Gauge, Some(value)) => metric.value = value,
                _ => return BAD_ARGUMENT,
            }
            OK
        })
    })?;
    l.func_wrap("env", "proxy_record_metric", |mut g: Guest<'_>, id: u32, value: u64| -> Status {
        with_metric(&mut g, "proxy_record_metric", id, |metric| match metric.kind {
            MetricKind::Counter => BAD_ARGUMENT,
            MetricKind::Gauge | MetricKind::Histogram => {
                metric.value = value;
                OK
            }
        })
    })?;
    l.func_wrap("env", "proxy_get_metric", |mut g: Guest<'_>, id: u32, at: u32| -> Status {
        let mut value = 0;
        let status = with_metric(&mut g, "proxy_get_metric", id, |metric| {
            value = metric.value;
            if metric.kind == MetricKind::Histogram { BAD_ARGUMENT } else { OK }
        })?;
        write_u64(&mut g, at, value)?;
        Ok(status)
    })?;
    Ok(())
}

fn with_metric(g: &mut Guest, call: &'static str, id: u32, act: impl FnOnce(&mut Metric) -> u32) -> Status {
    let state = g.data_mut();
    let place = usize::try_from(id).ok().and_then(|id| id.checked_sub(1));
    let Some(name) = place.and_then(|place| state.metrics.get(place)).cloned() else { return Ok(NOT_FOUND) };
    state.note(call, name.clone());
    Ok(state.envoy.0.borrow_mut().metrics.get_mut(&name).map_or(NOT_FOUND, act))
}
