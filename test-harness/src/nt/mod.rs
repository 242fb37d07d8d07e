//! What `ntoskrnl.exe` exports, as documented, and what stands behind it.
//!
//! The functions have the names and prototypes of the C headers. Where a prototype takes a pointer that must not be null, the
//! function here takes a reference, and an `Option` of one where it may be: a driver's bad pointer faults where it is first used,
//! and the guard reports it. Every function begins with `irql::called`, which checks the highest IRQL its
//! documentation allows.
#![allow(non_snake_case, non_camel_case_types, non_upper_case_globals)] // the headers' own names

pub(crate) mod activity;
pub(crate) mod addresses;
pub(crate) mod bitmap;
pub(crate) mod bug_check;
pub(crate) mod c_runtime;
pub(crate) mod calendar;
pub(crate) mod callback_object;
pub(crate) mod cancel_safe_queue;
pub(crate) mod cng;
pub(crate) mod conversion;
pub(crate) mod debug;
pub(crate) mod dispatcher;
pub(crate) mod dpc;
pub(crate) mod error_log;
pub mod etw;
pub(crate) mod exception;
pub(crate) mod executive_spin_lock;
pub(crate) mod generic_table;
pub(crate) mod io;
pub(crate) mod irp;
pub(crate) mod irql;
pub(crate) mod lent;
pub(crate) mod lists;
pub(crate) mod lock_order;
pub(crate) mod locked_pages;
pub(crate) mod mdl;
pub(crate) mod mutex;
pub(crate) mod notify;
pub(crate) mod object;
pub(crate) mod pages;
pub(crate) mod paging;
pub mod pool;
pub(crate) mod power;
pub(crate) mod power_framework;
pub(crate) mod privilege;
pub mod process;
pub(crate) mod processor;
pub(crate) mod processor_groups;
pub(crate) mod push_lock;
pub(crate) mod random;
pub mod registry;
pub(crate) mod registry_query;
pub(crate) mod resource;
pub(crate) mod runtime;
pub(crate) mod shared_data;
pub(crate) mod sid;
pub(crate) mod spin_lock;
pub(crate) mod splay_table;
pub mod status;
pub(crate) mod strings;
pub(crate) mod time;
pub(crate) mod timer;
pub mod types;
pub(crate) mod variables;
pub(crate) mod version;
pub(crate) mod wmi;
pub(crate) mod work;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::image::{Export, Sealed, Thunks};

/// A module's list of exported functions: each name with its address.
macro_rules! exports {
    ($($function:ident),* $(,)?) => {
        &[$((stringify!($function), $crate::image::Export::Function($crate::nt::address($function as *const ()))),)*]
    };
}
pub(crate) use exports;

/// The address of a function, in a constant.
pub(crate) const fn address(function: *const ()) -> crate::image::FunctionAddress {
    crate::image::FunctionAddress(function)
}

fn table() -> &'static HashMap<&'static str, Export> {
    static TABLE: OnceLock<HashMap<&'static str, Export>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let modules: [&[(&'static str, Export)]; 58] = [
            activity::EXPORTS,
            addresses::EXPORTS,
            bitmap::EXPORTS,
            bug_check::EXPORTS,
            c_runtime::EXPORTS,
            calendar::EXPORTS,
            callback_object::EXPORTS,
            executive_spin_lock::EXPORTS,
            cancel_safe_queue::EXPORTS,
            conversion::EXPORTS,
            debug::EXPORTS,
            dispatcher::EXPORTS,
            dpc::EXPORTS,
            error_log::EXPORTS,
            etw::EXPORTS,
            exception::EXPORTS,
            generic_table::EXPORTS,
            io::device::EXPORTS,
            io::driver::EXPORTS,
            io::file::EXPORTS,
            io::interface::EXPORTS,
            io::notification::EXPORTS,
            io::pnp::EXPORTS,
            io::property::EXPORTS,
            io::shutdown::EXPORTS,
            io::request::EXPORTS,
            io::services::EXPORTS,
            io::services::NATIVE,
            irp::EXPORTS,
            irql::EXPORTS,
            lists::EXPORTS,
            mdl::EXPORTS,
            mutex::EXPORTS,
            notify::EXPORTS,
            object::EXPORTS,
            pages::EXPORTS,
            paging::EXPORTS,
            pool::EXPORTS,
            power::EXPORTS,
            power_framework::EXPORTS,
            privilege::EXPORTS,
            process::EXPORTS,
            processor_groups::EXPORTS,
            push_lock::EXPORTS,
            random::EXPORTS,
            registry::EXPORTS,
            registry_query::EXPORTS,
            resource::EXPORTS,
            runtime::EXPORTS,
            sid::EXPORTS,
            spin_lock::EXPORTS,
            splay_table::EXPORTS,
            strings::EXPORTS,
            time::EXPORTS,
            timer::EXPORTS,
            version::EXPORTS,
            wmi::EXPORTS,
            work::EXPORTS,
        ];
        let functions = modules.into_iter().flatten().copied();
        let variables = object::type_variables()
            .into_iter()
            .chain(runtime::variables())
            .chain(exception::variables())
            .chain(mdl::variables())
            .chain(variables::variables());
        functions.chain(variables).collect()
    })
}

/// Every function that ntoskrnl.exe exports.
#[cfg(test)]
fn functions() -> Vec<(&'static str, usize)> {
    table().iter().filter_map(|(name, export)| Some((*name, export.code()?))).collect()
}

/// Where an export of ntoskrnl.exe begins that a driver asks for by name: it is entered as an import is.
fn routine(name: &str) -> Option<usize> {
    type Routines = (HashMap<&'static str, usize>, Sealed);
    static ROUTINES: OnceLock<Option<Routines>> = OnceLock::new();
    let made = ROUTINES.get_or_init(|| {
        let mut thunks = Thunks::new(table().len()).ok()?;
        let mut entry = |export: &Export| match export {
            Export::Function(function) => thunks.entry(function.0 as usize),
            Export::Bare(function) => thunks.jump(function.0 as usize),
            Export::Data(address) => *address,
        };
        let entries = table().iter().map(|(name, export)| (*name, entry(export))).collect();
        Some((entries, thunks.seal().ok()?))
    });
    made.as_ref()?.0.get(name).copied()
}

/// The export of a system module by name. Functions that hal.dll used to export are found here, too.
pub(crate) fn find(module: &str, name: &str) -> Option<Export> {
    match module.to_ascii_lowercase().as_str() {
        "ntoskrnl.exe" | "hal.dll" => table().get(name).copied(),
        "cng.sys" | "ksecdd.sys" => cng::find(name),
        "netio.sys" => crate::wsk::find(name),
        "wdfldr.sys" => crate::wdfldr::find(name),
        _ => None,
    }
}
