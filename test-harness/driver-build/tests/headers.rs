//! The stand-in's headers against the tables of what KMDF and the kernel really lay out: clang compiles an assertion for
//! every size, offset, value, index and function type, for both processors.

use std::{fmt::Write as _, fs, path::PathBuf};

use driver_build::{Arch, ToolchainSource, kernel_c_compiler};

const PRELUDE: &str = "#include <ntifs.h>\n#include <ntddk.h>\n#include <ntstrsafe.h>\n#include <wdf.h>\n";

/// The KMDF 1.31 table ends where that of 1.33 does; its functions are those before this index.
const FUNCTION_COUNT: u32 = 458;

/// Where the members of unions and unnamed parts are in the C structure, in the order of the table's rows.
const NESTED_MEMBERS: [(&str, &str); 6] = [
    (
        "WDF_MEMORY_DESCRIPTOR",
        "Type u.BufferType.Buffer u.BufferType.Length u.MdlType.Mdl u.MdlType.BufferLength u.HandleType.Memory \
         u.HandleType.Offsets",
    ),
    (
        "WDF_DEVICE_PNP_NOTIFICATION_DATA",
        "Type Data.EnterState.CurrentState Data.EnterState.NewState Data.PostProcessState.CurrentState \
         Data.LeaveState.CurrentState Data.LeaveState.NewState",
    ),
    (
        "WDF_REQUEST_PARAMETERS",
        "Size MinorFunction Type Parameters.Create.SecurityContext Parameters.Create.Options \
         Parameters.Create.FileAttributes Parameters.Create.ShareAccess Parameters.Create.EaLength Parameters.Read.Length \
         Parameters.Read.Key Parameters.Read.DeviceOffset Parameters.Write.Length Parameters.Write.Key \
         Parameters.Write.DeviceOffset Parameters.DeviceIoControl.OutputBufferLength \
         Parameters.DeviceIoControl.InputBufferLength Parameters.DeviceIoControl.IoControlCode \
         Parameters.DeviceIoControl.Type3InputBuffer Parameters.Others.Arg1 Parameters.Others.Arg2 \
         Parameters.Others.IoControlCode Parameters.Others.Arg4",
    ),
    (
        "WDF_REQUEST_COMPLETION_PARAMS",
        "Size Type IoStatus Parameters.Write.Buffer Parameters.Write.Length Parameters.Write.Offset \
         Parameters.Read.Buffer Parameters.Read.Length Parameters.Read.Offset Parameters.Ioctl.IoControlCode \
         Parameters.Ioctl.Input.Buffer Parameters.Ioctl.Input.Offset Parameters.Ioctl.Output.Buffer \
         Parameters.Ioctl.Output.Offset Parameters.Ioctl.Output.Length Parameters.Others.Argument1.Ptr \
         Parameters.Others.Argument1.Value Parameters.Others.Argument2.Ptr Parameters.Others.Argument2.Value \
         Parameters.Others.Argument3.Ptr Parameters.Others.Argument3.Value Parameters.Others.Argument4.Ptr \
         Parameters.Others.Argument4.Value Parameters.Usb.Completion",
    ),
    (
        "WDF_IO_QUEUE_CONFIG",
        "Size DispatchType PowerManaged AllowZeroLengthRequests DefaultQueue EvtIoDefault EvtIoRead EvtIoWrite \
         EvtIoDeviceControl EvtIoInternalDeviceControl EvtIoStop EvtIoResume EvtIoCanceledOnQueue \
         Settings.Parallel.NumberOfPresentedRequests Driver",
    ),
    ("WDF_IO_FORWARD_PROGRESS_RESERVED_POLICY_SETTINGS", "Policy.ExaminePolicy.EvtIoWdmIrpForForwardProgress"),
];

/// Structures that the WDK aligns to 16 bytes and mingw-w64 to 8, with mingw-w64's size. Members lie alike, and drivers get
/// both from the kernel by pointer.
const ALIGNED_TO_8_BY_MINGW: [(&str, &str); 2] = [("IRP", "208"), ("DEVICE_OBJECT", "328")];

fn table(name: &str) -> Vec<Vec<String>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/tables").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect()
}

/// Compiles the assertions for both processors; a failing one is named in the panic.
fn assert_compiles(name: &str, assertions: &str) {
    for arch in [Arch::X64, Arch::Arm64] {
        let source = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.c", arch.name()));
        fs::write(&source, format!("{PRELUDE}{assertions}")).expect("the test's folder is writable");
        let mut compiler =
            kernel_c_compiler(ToolchainSource::Any, arch).unwrap_or_else(|error| panic!("no compiler: {error:#}"));
        let output = compiler.args(["-fsyntax-only", "-ferror-limit=0"]).arg(&source).output().expect("clang runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", arch.name());
    }
}

/// A structure's name with its size and alignment, and its fields with offset and size.
type Structure = (Vec<String>, Vec<Vec<String>>);

fn structures(name: &str) -> Vec<Structure> {
    let mut all: Vec<Structure> = Vec::new();
    for row in table(name) {
        match all.last_mut() {
            Some((_, fields)) if row[0].is_empty() => fields.push(row[1..].to_vec()),
            _ => all.push((row, Vec::new())),
        }
    }
    all
}

#[test]
fn kmdf_structures_have_their_sizes_alignments_and_offsets() {
    let mut assertions = String::new();
    let mut fields_checked = 0;
    for (head, fields) in structures("kmdf_layout.tsv") {
        let [name, size, align] = &head[..] else { panic!("{head:?}") };
        // A handle's target has no typedef of its own.
        let name = if name.ends_with("__") { format!("struct {name}") } else { name.clone() };
        writeln!(assertions, "_Static_assert(sizeof({name}) == {size} && _Alignof({name}) == {align}, \"{name}\");")
            .unwrap();
        let nested = NESTED_MEMBERS.iter().find(|(nested, _)| *nested == name);
        let paths: Vec<&str> = match nested {
            Some((_, paths)) => paths.split_whitespace().collect(),
            None => fields.iter().map(|field| field[0].as_str()).collect(),
        };
        assert_eq!(paths.len(), fields.len(), "{name}");
        for (path, field) in paths.iter().zip(&fields) {
            let (offset, size) = (&field[1], &field[2]);
            assert!(path.ends_with(&field[0]), "{name}.{path} is not {}", field[0]);
            writeln!(assertions, "_Static_assert(__builtin_offsetof({name}, {path}) == {offset}, \"{name}.{path}\");")
                .unwrap();
            writeln!(assertions, "_Static_assert(sizeof((({name} *)0)->{path}) == {size}, \"{name}.{path}\");")
                .unwrap();
            fields_checked += 1;
        }
    }
    assert!(fields_checked > 200, "the table is short: {fields_checked} fields");
    assert_compiles("kmdf_structures", &assertions);
}

#[test]
fn kmdf_enumerations_have_their_values() {
    let mut assertions = String::new();
    for row in table("kmdf_enums.tsv") {
        let [of, name, value] = &row[..] else { panic!("{row:?}") };
        writeln!(assertions, "_Static_assert((long long){name} == {value}, \"{of}\");").unwrap();
        writeln!(assertions, "_Static_assert(sizeof({of}) == 4 && sizeof(enum _{of}) == 4, \"{of}\");").unwrap();
    }
    assert_compiles("kmdf_enumerations", &assertions);
}

#[test]
fn kmdf_functions_have_their_indices_and_types() {
    let mut assertions = String::new();
    let mut typed = 0;
    for row in table("kmdf_functions.tsv") {
        let (index, name) = (row[0].parse::<u32>().expect("an index"), &row[1]);
        if index == FUNCTION_COUNT {
            writeln!(assertions, "_Static_assert(WdfFunctionTableNumEntries == {index}, \"count\");").unwrap();
            continue;
        }
        writeln!(assertions, "_Static_assert({name}TableIndex == {index}, \"{name}\");").unwrap();
        let (returns, arguments) = (&row[2], &row[3]);
        if !returns.is_empty() {
            let pointer = function_pointer(returns, arguments);
            let typedef = format!("PFN_{}", name.to_uppercase());
            writeln!(assertions, "_Static_assert(__builtin_types_compatible_p({typedef}, {pointer}), \"{name}\");")
                .unwrap();
            typed += 1;
        }
    }
    assert!(typed > 380, "the table is short: {typed} functions");
    assert_compiles("kmdf_functions", &assertions);
}

#[test]
fn kmdf_callbacks_have_their_types() {
    let mut assertions = String::new();
    for row in table("kmdf_callbacks.tsv") {
        let [name, returns, arguments] = &row[..] else { panic!("{row:?}") };
        let pointer = function_pointer(returns, arguments);
        writeln!(assertions, "_Static_assert(__builtin_types_compatible_p({name} *, {pointer}), \"{name}\");").unwrap();
    }
    assert_compiles("kmdf_callbacks", &assertions);
}

#[test]
fn the_kernel_s_structures_have_their_sizes_and_alignments() {
    let mut assertions = String::new();
    let mut checked = 0;
    for (head, _) in structures("nt_layout.tsv") {
        let [name, size, align] = &head[..] else { panic!("{head:?}") };
        let less_aligned = ALIGNED_TO_8_BY_MINGW.iter().find(|(known, _)| known == name);
        let (size, align) = less_aligned.map_or((size.as_str(), align.as_str()), |&(_, size)| (size, "8"));
        writeln!(assertions, "_Static_assert(sizeof({name}) == {size}, \"size of {name}\");").unwrap();
        writeln!(assertions, "_Static_assert(_Alignof({name}) == {align}, \"alignment of {name}\");").unwrap();
        checked += 1;
    }
    assert!(checked > 20, "the table is short: {checked} structures");
    assert_compiles("nt_structures", &assertions);
}

fn function_pointer(returns: &str, arguments: &str) -> String {
    let arguments = if arguments.is_empty() { "void".to_owned() } else { arguments.replace("; ", ", ") };
    // An opaque type, which mingw-w64 calls _EPROCESS.
    format!("{returns} (*)({arguments})").replace("struct _KPROCESS *", "PEPROCESS")
}
