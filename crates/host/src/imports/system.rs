//! Log, clocks, ticks, and the little of WASI that a module needs: environment, randomness, standard output, exit.

use super::{INTERNAL_FAILURE, OK, Status};
use crate::memory::{Guest, read, read_text, write, write_u32, write_u64};
use crate::state::{ROOT, State};
use crate::words::{LogLevel, text};
use wasmi::errors::LinkerError;
use wasmi::{Error, Linker};

const WASI: &str = "wasi_snapshot_preview1";
const WASI_BAD_FD: u32 = 8;
const WASI_NOT_SUPPORTED: u32 = 58;

pub(super) fn link(l: &mut Linker<State>) -> Result<(), LinkerError> {
    l.func_wrap("env", "proxy_log", |mut g: Guest<'_>, level: u32, at: u32, len: u32| -> Status {
        let line = read_text(&g, at, len)?;
        let level = LogLevel::from_abi(level).ok_or_else(|| Error::new("no such log level"))?;
        g.data_mut().log(level, line);
        Ok(OK)
    })?;
    l.func_wrap("env", "proxy_get_log_level", |mut g: Guest<'_>, at: u32| -> Status {
        write_u32(&mut g, at, 2)?;
        Ok(OK)
    })?;
    l.func_wrap("env", "proxy_get_current_time_nanoseconds", |mut g: Guest<'_>, at: u32| -> Status {
        g.data_mut().note("proxy_get_current_time_nanoseconds", String::new());
        let now = g.data().envoy.0.borrow().wall_ns;
        write_u64(&mut g, at, now)?;
        Ok(OK)
    })?;
    l.func_wrap("env", "proxy_set_tick_period_milliseconds", |mut g: Guest<'_>, ms: u32| -> Status {
        let state = g.data_mut();
        state.note("proxy_set_tick_period_milliseconds", ms.to_string());
        state.tick_ms = ms;
        Ok(OK)
    })?;
    l.func_wrap("env", "proxy_done", |mut g: Guest<'_>| -> Status {
        g.data_mut().note("proxy_done", String::new());
        Ok(if g.data().context() == ROOT { OK } else { INTERNAL_FAILURE })
    })?;
    wasi(l)
}

fn wasi(l: &mut Linker<State>) -> Result<(), LinkerError> {
    l.func_wrap(WASI, "environ_sizes_get", |mut g: Guest<'_>, count_at: u32, bytes_at: u32| -> Status {
        let env = environment(&g);
        let bytes: usize = env.iter().map(Vec::len).sum();
        write_u32(&mut g, count_at, u32::try_from(env.len()).unwrap_or(u32::MAX))?;
        write_u32(&mut g, bytes_at, u32::try_from(bytes).unwrap_or(u32::MAX))?;
        Ok(OK)
    })?;
    l.func_wrap(WASI, "environ_get", |mut g: Guest<'_>, mut places: u32, mut at: u32| -> Status {
        for entry in environment(&g) {
            write_u32(&mut g, places, at)?;
            write(&mut g, at, &entry)?;
            places = places.saturating_add(4);
            at = at.saturating_add(u32::try_from(entry.len()).unwrap_or(u32::MAX));
        }
        Ok(OK)
    })?;
    l.func_wrap(WASI, "clock_time_get", |mut g: Guest<'_>, clock: u32, _: u64, at: u32| -> Status {
        g.data_mut().note("clock_time_get", clock.to_string());
        let (wall, mono) = {
            let process = g.data().envoy.0.borrow();
            (process.wall_ns, process.mono_ns)
        };
        match clock {
            0 => write_u64(&mut g, at, wall)?,
            1 => write_u64(&mut g, at, mono)?,
            _ => return Ok(WASI_NOT_SUPPORTED),
        }
        Ok(OK)
    })?;
    l.func_wrap(WASI, "random_get", |mut g: Guest<'_>, at: u32, len: u32| -> Status {
        let len = usize::try_from(len).map_err(|_| Error::new("more than memory can hold"))?;
        let bytes: Vec<u8> =
            std::iter::repeat_with(|| g.data_mut().random().to_le_bytes()).flatten().take(len).collect();
        write(&mut g, at, &bytes)?;
        Ok(OK)
    })?;
    l.func_wrap(WASI, "fd_write", |mut g: Guest<'_>, fd: u32, list: u32, count: u32, at: u32| -> Status {
        let level = match fd {
            1 => LogLevel::Info,
            2 => LogLevel::Error,
            _ => return Ok(WASI_BAD_FD),
        };
        let mut line = Vec::new();
        for entry in read(&g, list, count.saturating_mul(8))?.chunks_exact(8) {
            if let Some((place, len)) = entry.split_first_chunk::<4>()
                && let Ok(len) = <[u8; 4]>::try_from(len)
            {
                line.extend(read(&g, u32::from_le_bytes(*place), u32::from_le_bytes(len))?);
            }
        }
        write_u32(&mut g, at, u32::try_from(line.len()).unwrap_or(u32::MAX))?;
        g.data_mut().log(level, text(line.strip_suffix(b"\n").unwrap_or(&line)));
        Ok(OK)
    })?;
    l.func_wrap(WASI, "proc_exit", |_: Guest<'_>, code: u32| -> Result<(), Error> {
        Err(Error::new(format!("the module exits with {code}")))
    })?;
    Ok(())
}

fn environment(g: &Guest) -> Vec<Vec<u8>> {
    g.data().env.iter().map(|(k, v)| format!("{k}={v}\0").into_bytes()).collect()
}
