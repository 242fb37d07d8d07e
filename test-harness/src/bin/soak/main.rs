//! `cargo soak`: programs that use `sanwsk.sys` in every way at once, for as long as one likes, while memory runs out, peers reset
//! and processes die. Every byte that arrives is compared; at the end everything has to be as it was.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod activity;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod bed;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod foreign;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod load;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod program;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn main() -> std::process::ExitCode {
    load::run()
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn main() -> std::process::ExitCode {
    eprintln!("the soak runs the driver in the harness, which needs x64 Linux");
    std::process::ExitCode::FAILURE
}
