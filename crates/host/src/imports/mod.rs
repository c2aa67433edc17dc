//! Every function that the module may import, with Envoy's answers.

mod http;
mod shared;
mod system;

use crate::state::State;
use wasmi::errors::LinkerError;
use wasmi::{Error, ExternType, Linker, Module};

/// What a host function answers: a status of the ABI, or a trap.
type Status = Result<u32, Error>;

const OK: u32 = 0;
const NOT_FOUND: u32 = 1;
const BAD_ARGUMENT: u32 = 2;
const EMPTY: u32 = 7;
const CAS_MISMATCH: u32 = 8;
const INTERNAL_FAILURE: u32 = 10;

/// Defines all that the module imports. What this host does not play traps when called, and says so.
pub(crate) fn link(linker: &mut Linker<State>, module: &Module) -> Result<(), LinkerError> {
    linker.allow_shadowing(true);
    for import in module.imports() {
        if let ExternType::Func(kind) = import.ty() {
            let name = import.name().to_owned();
            linker.func_new(import.module(), import.name(), kind.clone(), move |_, _, _| {
                Err(Error::new(format!("the module calls {name}, which this host does not play")))
            })?;
        }
    }
    system::link(linker)?;
    shared::link(linker)?;
    http::link(linker)
}
