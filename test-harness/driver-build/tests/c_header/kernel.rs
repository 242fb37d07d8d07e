//! `include/sanwsk_kernel.h` against san-protocol: clang, as drivers are compiled, asserts every size, offset, number and function
//! type that the Rust types have.

use driver_build::{Arch, ToolchainSource, kernel_c_compiler};
use san_protocol::kernel::{
    GetInterface, INTERFACE_VERSION, IOCTL_INTERNAL_SANWSK_GET_INTERFACE, Interface, InterfaceVersions,
};
use std::fmt::Write as _;
use std::fs;

/// What a type of a function's argument is in C.
fn argument(rust: &str) -> &'static str {
    match rust {
        "ClientId" | "EndpointId" | "u64" => "ULONGLONG",
        "*mut ClientId" => "PSANWSK_CLIENT",
        "*mut EndpointId" => "SANWSK_ENDPOINT_ID *",
        "*mut Operation" => "PSANWSK_OPERATION",
        "Option<Completion>" => "PSANWSK_COMPLETION",
        "*mut c_void" => "PVOID",
        "*mut Mdl" => "PMDL",
        "*const u8" => "const VOID *",
        "u32" => "ULONG",
        "u16" => "USHORT",
        "*const SocketAddress" => "const SANWSK_SOCKET_ADDRESS *",
        "*mut AddressReply" => "PSANWSK_ADDRESS_REPLY",
        "*mut AcceptReply" => "PSANWSK_ACCEPT_REPLY",
        "*mut NegotiateReply" => "PSANWSK_NEGOTIATE_REPLY",
        "*mut MemoryReply" => "PSANWSK_MEMORY_REPLY",
        "*mut AddressesReply" => "PSANWSK_ADDRESSES_REPLY",
        "*mut EndpointStatistics" => "PSANWSK_ENDPOINT_STATISTICS",
        other => panic!("what is {other} in C?"),
    }
}

/// What a function pointer's type is in C.
fn function(field: &str, rust: &str) -> String {
    let rust = rust.split_whitespace().collect::<Vec<_>>().join(" ");
    let (arguments, returns) = rust.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')).expect("a function");
    let returns = if returns.contains("NtStatus") { "NTSTATUS" } else { "VOID" };
    let arguments: Vec<&str> = arguments
        .split(',')
        .filter_map(|argument| argument.split_once(':'))
        // The Rust layouts know no IRP.
        .map(|(name, kind)| if name.trim() == "irp" { "PIRP" } else { argument(kind.trim()) })
        .collect();
    let pointer = format!("{returns} (NTAPI *)({})", arguments.join(", "));
    format!("__builtin_types_compatible_p(__typeof__(((SANWSK_INTERFACE *)0)->{field}), {pointer})")
}

fn assertions() -> String {
    let mut text = String::new();
    let mut holds = |condition: &str, what: &str| writeln!(text, "_Static_assert({condition}, \"{what}\");").unwrap();
    let layout = Interface::LAYOUT;
    holds(&format!("sizeof(SANWSK_INTERFACE) == {}", layout.size), "SANWSK_INTERFACE");
    for (field, kind) in layout.fields.iter().zip(Interface::KINDS) {
        let name = field.name;
        holds(&format!("__builtin_offsetof(SANWSK_INTERFACE, {name}) == {}", field.offset), name);
        holds(&format!("sizeof(((SANWSK_INTERFACE *)0)->{name}) == {}", field.size), name);
        if kind.contains("fn(") {
            holds(&function(name, kind), name);
        }
    }
    for (begins, ours) in [("Size", "Size"), ("Version", "Version"), ("Context", "Context")] {
        holds(
            &format!("__builtin_offsetof(INTERFACE, {begins}) == __builtin_offsetof(SANWSK_INTERFACE, {ours})"),
            "INTERFACE",
        );
    }
    holds(&format!("sizeof(SANWSK_GET_INTERFACE) == {}", size_of::<GetInterface>()), "SANWSK_GET_INTERFACE");
    holds(
        &format!("sizeof(SANWSK_INTERFACE_VERSIONS) == {}", size_of::<InterfaceVersions>()),
        "SANWSK_INTERFACE_VERSIONS",
    );
    holds("__builtin_offsetof(SANWSK_GET_INTERFACE, Size) == 4", "Size");
    holds("__builtin_offsetof(SANWSK_INTERFACE_VERSIONS, Newest) == 4", "Newest");
    holds(
        &format!("(ULONG)IOCTL_INTERNAL_SANWSK_GET_INTERFACE == {IOCTL_INTERNAL_SANWSK_GET_INTERFACE:#X}u"),
        "IOCTL_INTERNAL_SANWSK_GET_INTERFACE",
    );
    holds(&format!("SANWSK_INTERFACE_VERSION == {INTERFACE_VERSION}"), "SANWSK_INTERFACE_VERSION");
    text
}

/// Compiles the check against a header's text; what the compiler found wrong.
fn check(case: &str, header: &str, arch: Arch) -> Result<(), String> {
    let folder = super::folder(&format!("kernel-interface-{case}-{}", arch.name()));
    let source = folder.join("check.c");
    fs::write(folder.join("sanwsk_kernel.h"), header).expect("writable");
    fs::write(&source, format!("#include <ntddk.h>\n#include \"sanwsk_kernel.h\"\n{}", assertions()))
        .expect("writable");
    let mut clang = kernel_c_compiler(ToolchainSource::Any, arch).expect("the driver's compiler");
    let output = clang.args(["-Wall", "-Werror", "-fsyntax-only", "-I"]).arg(super::include()).arg(source).output();
    let output = output.expect("clang runs");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

#[test]
fn the_sample_in_c_compiles_for_every_processor() {
    let sample = driver_build::workspace_root().join("samples/block/block.c");
    for arch in [Arch::X64, Arch::Arm64] {
        let mut clang = kernel_c_compiler(ToolchainSource::Any, arch).expect("the driver's compiler");
        let output = clang.arg("-fsyntax-only").arg(&sample).output().expect("clang runs");
        assert!(output.status.success(), "{}: {}", arch.name(), String::from_utf8_lossy(&output.stderr));
    }
}

/// It needs nothing but one of the WDK's own headers before it, and is C++ too.
#[test]
fn the_kernel_header_compiles_after_each_of_the_wdk_s_in_c_and_in_cpp() {
    let folder = super::folder("kernel-includes");
    for before in ["wdm.h", "ntddk.h", "ntifs.h"] {
        for (language, standard) in [("c", "-std=c17"), ("c++", "-std=c++17")] {
            let source = folder.join(format!("{before}.{language}"));
            let text = format!("#include <{before}>\n#include <sanwsk_kernel.h>\n{USE}");
            fs::write(&source, text).expect("writable");
            let mut clang = kernel_c_compiler(ToolchainSource::Any, Arch::X64).expect("the driver's compiler");
            clang.args(["-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I"]).arg(super::include());
            let output = clang.args([standard, "-x", language]).arg(&source).output().expect("clang runs");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "after {before} in {language}: {said}");
        }
    }
}

/// A client that compiles in both languages.
const USE: &str = "
static VOID NTAPI Completed(PSANWSK_OPERATION Operation, PVOID Context, NTSTATUS Status, ULONG_PTR Information) {
    (void)Operation, (void)Status, (void)Information;
    KeSetEvent((PKEVENT)Context, IO_NO_INCREMENT, FALSE);
}

NTSTATUS Use(const SANWSK_INTERFACE *San, PSANWSK_OPERATION Operation, PKEVENT Event);

NTSTATUS Use(const SANWSK_INTERFACE *San, PSANWSK_OPERATION Operation, PKEVENT Event) {
    SANWSK_CLIENT Client;
    NTSTATUS Status = San->OpenClient(San->Context, &Client);
    if (NT_SUCCESS(Status))
        Status = San->InitializeOperation(Operation, Completed, Event);
    return NT_SUCCESS(Status) ? San->CloseClient(Client, Operation) : Status;
}
";

fn header() -> String {
    fs::read_to_string(super::include().join("sanwsk_kernel.h")).expect("the header")
}

#[test]
fn the_kernel_header_says_what_the_interface_is() {
    for arch in [Arch::X64, Arch::Arm64] {
        check("as-it-is", &header(), arch).unwrap_or_else(|said| panic!("{}: {said}", arch.name()));
    }
}

#[test]
fn a_kernel_header_that_is_wrong_is_told_from_the_right_one() {
    let mistakes = [
        (
            "order",
            "    SANWSK_CREATE *Create;\n    SANWSK_SET_OPTION *SetOption;",
            "    SANWSK_SET_OPTION *SetOption;\n    SANWSK_CREATE *Create;",
            "Create",
        ),
        (
            "argument",
            "SANWSK_ENDPOINT_ID Endpoint, ULONG Backlog);",
            "SANWSK_ENDPOINT_ID Endpoint, USHORT Backlog);",
            "Listen",
        ),
        ("code", "0x900, METHOD_NEITHER", "0x900, METHOD_BUFFERED", "GET_INTERFACE"),
        (
            "version",
            "#define SANWSK_INTERFACE_VERSION 1",
            "#define SANWSK_INTERFACE_VERSION 2",
            "SANWSK_INTERFACE_VERSION",
        ),
    ];
    for (case, right, wrong, named) in mistakes {
        let header = header();
        assert_eq!(header.matches(right).count(), 1, "{case}: the header has this once: {right}");
        let said = check(case, &header.replace(right, wrong), Arch::X64).expect_err(case);
        assert!(said.contains(named), "{case}: {named} is not named in: {said}");
    }
}
