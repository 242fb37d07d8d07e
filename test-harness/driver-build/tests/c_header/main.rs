//! `include/sanwsk.h` against san-protocol: a C and a C++ program made from the Rust types asserts every size, offset, code and
//! value, and is compiled for this machine and for Windows. The C example is compiled for Windows too. `include/sanwsk_kernel.h`
//! is checked likewise, as a driver includes it.

mod compilers;
mod expected;
mod kernel;

use compilers::{Compiler, Language};
use driver_build::{Arch, ToolchainSource, kernel_c_compiler};
use expected::Expected;
use std::{fs, path::PathBuf, process::Command};

/// A folder of this test's own.
fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("c_header").join(name);
    fs::create_dir_all(&folder).expect("the test's folder is writable");
    folder
}

fn include() -> PathBuf {
    driver_build::workspace_root().join("include")
}

fn header() -> String {
    let path = include().join("sanwsk.h");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Compiles and runs the check against a header text; what the compiler or the program found wrong.
fn check_on_this_machine(case: &str, header: &str, language: Language) -> Result<(), String> {
    let Some(compiler) = Compiler::of_this_machine(language) else { return Ok(()) };
    let folder = folder(&format!("{case}-{}", language.extension()));
    let source = folder.join("check").with_extension(language.extension());
    let program = folder.join("check");
    fs::write(folder.join("sanwsk.h"), header).expect("writable");
    fs::write(&source, format!("#include <sanwsk.h>\n{}", Expected::of_the_protocol().program())).expect("writable");
    compiler.run(&[&"-I", &folder, &source, &"-o", &program])?;
    let output = Command::new(&program).output().expect("a program of this machine runs");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stdout).into_owned()) }
}

#[test]
fn the_header_says_what_the_protocol_is() {
    for language in Language::ALL {
        check_on_this_machine("as-it-is", &header(), language).unwrap_or_else(|said| panic!("{language:?}: {said}"));
    }
}

/// What a program may have included before, and what it may include after.
const AMONG_WINDOWS_HEADERS: [(&str, &str, &str); 3] = [
    ("first", "", "#include <winsock2.h>\n#include <ws2ipdef.h>\n"),
    ("after-winsock2", "#include <winsock2.h>\n#include <ws2ipdef.h>\n#include <windows.h>\n", ""),
    (
        "after-ntstatus",
        "#include <winsock2.h>\n#include <ws2ipdef.h>\n#define WIN32_NO_STATUS\n#include <windows.h>\n\
         #undef WIN32_NO_STATUS\n#include <winternl.h>\n#include <ntstatus.h>\n",
        "",
    ),
];

/// The address is to be copied from what Windows' own functions take.
const SOCKADDR_INET: &str = "
CHECK(sizeof(SOCKADDR_INET) == sizeof(SANWSK_SOCKET_ADDRESS), \"SOCKADDR_INET\");
CHECK(offsetof(SOCKADDR_INET, si_family) == offsetof(SANWSK_SOCKET_ADDRESS, Family), \"si_family\");
CHECK(offsetof(SOCKADDR_INET, Ipv4.sin_port) == offsetof(SANWSK_SOCKET_ADDRESS, Port), \"sin_port\");
CHECK(offsetof(SOCKADDR_INET, Ipv4.sin_addr) == offsetof(SANWSK_SOCKET_ADDRESS, Rest), \"sin_addr\");
CHECK(offsetof(SOCKADDR_INET, Ipv6.sin6_scope_id) == offsetof(SANWSK_SOCKET_ADDRESS, Rest) + 20, \"sin6_scope_id\");
CHECK(SANWSK_AF_INET == AF_INET && SANWSK_AF_INET6 == AF_INET6, \"families\");
CHECK(SANWSK_SOMAXCONN == SOMAXCONN, \"SOMAXCONN\");
CHECK(SANWSK_FD_CONNECT == FD_CONNECT && SANWSK_FD_ACCEPT == FD_ACCEPT, \"network events\");
";

#[test]
fn the_header_is_the_same_on_windows_among_its_own_headers() {
    let program = Expected::of_the_protocol().program();
    for (place, before, after) in AMONG_WINDOWS_HEADERS {
        for (language, target) in
            Language::ALL.into_iter().flat_map(|language| compilers::WINDOWS.map(|t| (language, t)))
        {
            let source = folder(&format!("{place}-{target}")).join("check").with_extension(language.extension());
            fs::write(&source, format!("{before}#include <sanwsk.h>\n{after}{program}{SOCKADDR_INET}"))
                .expect("writable");
            let compiled = Compiler::for_windows(language, target).run(&[&"-fsyntax-only", &"-I", &include(), &source]);
            compiled.unwrap_or_else(|said| panic!("{place}, {target}, {language:?}: {said}"));
        }
    }
}

#[test]
fn a_driver_in_c_may_include_the_header() {
    for arch in [Arch::X64, Arch::Arm64] {
        let source = folder(&format!("kernel-{}", arch.name())).join("check.c");
        let assertions = Expected::of_the_protocol().assertions();
        fs::write(&source, format!("#include <ntddk.h>\n#include <sanwsk.h>\n{assertions}")).expect("writable");
        let mut clang = kernel_c_compiler(ToolchainSource::Any, arch).expect("the driver's compiler");
        let output = clang.args(["-Wall", "-Werror", "-fsyntax-only", "-I"]).arg(include()).arg(source).output();
        let output = output.expect("clang runs");
        assert!(output.status.success(), "{}: {}", arch.name(), String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_header_has_nothing_that_is_not_checked() {
    let program = Expected::of_the_protocol().program();
    assert_eq!(expected::unchecked_names(&header(), &program), Vec::<String>::new());
    let more = format!("{}\n#define SANWSK_NEW 1\n", header());
    assert_eq!(expected::unchecked_names(&more, &program), ["SANWSK_NEW"]);
}

#[test]
fn a_header_that_is_wrong_is_told_from_the_right_one() {
    // What is changed, into what, and what is said to be wrong.
    let mistakes = [
        (
            "offset",
            "uint32_t Rights;\n    /* Zero. */\n    uint32_t Reserved;",
            "uint32_t Reserved;\n    uint32_t Rights;",
            "Rights",
        ),
        ("field", "uint64_t ConnectFailures;", "uint64_t ConnectsFailed;", "ConnectFailures"),
        ("size", "uint32_t InUse;", "uint64_t InUse;", "SANWSK_MEMORY_REPLY"),
        ("function", "SANWSK, 0x813, METHOD_BUFFERED", "SANWSK, 0x833, METHOD_BUFFERED", "IOCTL_SANWSK_CONNECT"),
        ("method", "0x817, METHOD_OUT_DIRECT", "0x817, METHOD_IN_DIRECT", "IOCTL_SANWSK_RECEIVE"),
        ("flag", "#define SANWSK_MEMORY_RECEIVE 2", "#define SANWSK_MEMORY_RECEIVE 4", "SANWSK_MEMORY_RECEIVE"),
        ("number", "SanWskDecisionReject = 2", "SanWskDecisionReject = 0", "SanWskDecisionReject"),
        ("missing", "#define SANWSK_FD_ACCEPT 0x08", "", "SANWSK_FD_ACCEPT"),
        ("status", "((int32_t)0xC0000236)", "((int32_t)0xC0000235)", "STATUS_CONNECTION_REFUSED"),
        ("error", "#define WSAEDISCON 10101L", "#define WSAEDISCON 10102L", "WSAEDISCON"),
        ("mapping", "Row(STATUS_CANT_WAIT, WSAEWOULDBLOCK)", "Row(STATUS_CANT_WAIT, WSAEINVAL)", "STATUS_CANT_WAIT"),
        ("row", "    Row(STATUS_IO_TIMEOUT, WSAETIMEDOUT) \\\n", "", "STATUS_IO_TIMEOUT"),
        ("device", "\\\\SanWsk\"\n\n/* The symbolic", "\\\\SanWsq\"\n\n/* The symbolic", "SANWSK_DEVICE_PATH"),
    ];
    for (case, right, wrong, named) in mistakes {
        let header = header();
        assert_eq!(header.matches(right).count(), 1, "{case}: the header has this once: {right}");
        let said = check_on_this_machine(case, &header.replace(right, wrong), Language::C).expect_err(case);
        assert!(said.contains(named), "{case}: {named} is not named in: {said}");
    }
}

#[test]
fn the_example_compiles_for_windows() {
    for target in compilers::WINDOWS {
        let object = folder(target).join("message.o");
        let source = include().join("examples/message.c");
        let compiled = Compiler::for_windows(Language::C, target).run(&[
            &"-O2",
            &"-c",
            &"-I",
            &include(),
            &source,
            &"-o",
            &object,
        ]);
        compiled.unwrap_or_else(|said| panic!("{target}: {said}"));
        assert!(fs::metadata(&object).expect("it was written").len() > 0);
    }
}
