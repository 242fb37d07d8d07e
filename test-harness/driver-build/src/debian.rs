//! Debian's and Ubuntu's packages, downloaded and unpacked for this project alone. Nothing is installed: the packages of a
//! Rust that can compile for Windows conflict with rustup's and with the system's own Rust. No root is needed either.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    output_root,
    progress::{run_quietly, say},
    toolchain::{LLVM_VERSIONS, OLDEST_RUST},
};

/// What the system itself lacks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Missing {
    pub(crate) rust: bool,
    pub(crate) llvm: bool,
    pub(crate) mingw_headers: bool,
}

/// The folder that packages are unpacked in, as if it were the root of a system.
pub(crate) struct PrivateRoot(PathBuf);

impl PrivateRoot {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn usr(&self) -> PathBuf {
        self.0.join("usr")
    }

    pub(crate) fn library_folders(&self) -> Vec<PathBuf> {
        let multiarch = format!("{}-linux-gnu", env::consts::ARCH);
        vec![self.usr().join("lib").join(multiarch), self.usr().join("lib")]
    }
}

/// Whether this system has the tools that download and unpack packages.
pub(crate) fn is_debian_like() -> bool {
    ["/usr/bin/apt-get", "/usr/bin/apt-cache", "/usr/bin/dpkg"].iter().all(|tool| Path::new(tool).exists())
}

fn private_root() -> PrivateRoot {
    PrivateRoot(output_root().join("toolchain"))
}

/// Whether a Rust has been unpacked by an earlier [`set_up`].
pub(crate) fn has_unpacked_rust() -> bool {
    private_root().usr().join("bin/cargo-clippy").exists()
}

/// Downloads and unpacks what is missing, unless an earlier call has.
pub(crate) fn set_up(missing: Missing) -> Result<PrivateRoot> {
    let root = private_root();
    let roots = match wanted_packages(missing) {
        Ok(packages) => packages,
        Err(_) => {
            refresh_package_lists()?;
            wanted_packages(missing)?
        }
    };
    let stamp = root.path().join("unpacked");
    let have: BTreeSet<String> = fs::read_to_string(&stamp).unwrap_or_default().lines().map(str::to_owned).collect();
    if roots.iter().all(|package| have.contains(package)) {
        return Ok(root);
    }
    let packages: Vec<String> =
        with_dependencies(&roots)?.into_iter().filter(|package| !have.contains(package)).collect();
    say(format!("wanted for this project: {}", missing.in_words()));
    say(format!("unpacking its packages in {}, and installing none:", root.path().display()));
    say(packages.join(" "));
    download_and_unpack(&packages, &root)?;
    let all: Vec<String> = have.into_iter().chain(packages).collect();
    fs::write(stamp, all.join("\n"))?;
    Ok(root)
}

impl Missing {
    fn in_words(self) -> String {
        let parts = [
            (self.rust, "a Rust that compiles for Windows"),
            (self.llvm, "clang and lld, which compile and link for Windows"),
            (self.mingw_headers, "headers of the Windows kernel (mingw-w64)"),
        ];
        parts.iter().filter(|(missing, _)| *missing).map(|&(_, what)| what).collect::<Vec<_>>().join("; ")
    }
}

/// The packages to start from, of the newest versions that this release of Debian or Ubuntu has.
fn wanted_packages(missing: Missing) -> Result<Vec<String>> {
    let mut packages = Vec::new();
    if missing.rust {
        packages
            .extend(rust_packages().context("no package of a recent Rust with its library's source is known here")?);
    }
    if missing.llvm {
        packages.extend(llvm_packages().context("no packages of clang and lld are known here")?);
    }
    if missing.mingw_headers {
        // Headers for both processors are the same.
        let headers = "mingw-w64-x86-64-dev".to_owned();
        candidate_version(&headers).context("the package mingw-w64-x86-64-dev is not known here")?;
        packages.push(headers);
    }
    Ok(packages)
}

/// Debian keeps a current Rust for its browsers (`-web`), Ubuntu one with its version in the name.
fn rust_packages() -> Option<Vec<String>> {
    const NEWEST_MINOR: u32 = 130;
    let versioned = (OLDEST_RUST.1..=NEWEST_MINOR).rev().map(|minor| {
        let version = format!("{}.{minor}", OLDEST_RUST.0);
        ["rustc-", "cargo-", "rust-"].map(|name| format!("{name}{version}"))
    });
    let web = ["rustc-web", "cargo-web", "rust-web"].map(str::to_owned);
    let plain = ["rustc", "cargo", "rust"].map(str::to_owned);
    let known = known_packages().ok()?;
    [web, plain].into_iter().chain(versioned).find_map(|[rustc, cargo, family]| {
        let packages = vec![rustc.clone(), cargo, format!("{family}-src"), format!("{family}-clippy")];
        let complete = packages.iter().all(|package| known.contains(package));
        (complete && is_recent_rust(&candidate_version(&rustc)?)).then_some(packages)
    })
}

fn llvm_packages() -> Option<Vec<String>> {
    let known = known_packages().ok()?;
    // What is in use most is tried first: 19 is in every current release of Debian and Ubuntu.
    [19].into_iter().chain(LLVM_VERSIONS.rev()).find_map(|version| {
        let packages: Vec<String> =
            ["clang-", "lld-", "llvm-", "libclang1-"].iter().map(|name| format!("{name}{version}")).collect();
        packages.iter().all(|package| known.contains(package)).then_some(packages)
    })
}

/// Whether a package version such as `1.96.0+dfsg1-1~deb12u2` is recent enough.
fn is_recent_rust(version: &str) -> bool {
    let mut numbers =
        version.split(|character: char| !character.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= OLDEST_RUST
}

fn known_packages() -> Result<BTreeSet<String>> {
    let names = run_quietly(Command::new("apt-cache").arg("pkgnames"))?;
    Ok(names.lines().map(str::to_owned).collect())
}

fn candidate_version(package: &str) -> Option<String> {
    describe(&[package.to_owned()]).ok()?.pop().map(|described| described.version)
}

fn refresh_package_lists() -> Result<()> {
    say("`apt-get update`: the lists of packages here do not name what is wanted");
    run_quietly(Command::new("apt-get").arg("update")).context(
        "the lists of packages could not be refreshed; run `sudo apt-get update` once, or install Rust's target with \
         `rustup target add x86_64-pc-windows-msvc aarch64-pc-windows-msvc`, and the packages clang, lld, llvm and \
         mingw-w64-x86-64-dev",
    )?;
    Ok(())
}

/// What `apt-cache` says of one package.
struct Described {
    name: String,
    source: String,
    version: String,
    /// Each is a list of alternatives.
    depends: Vec<Vec<String>>,
}

fn describe(packages: &[String]) -> Result<Vec<Described>> {
    let text = run_quietly(Command::new("apt-cache").args(["show", "--no-all-versions"]).args(packages))?;
    Ok(text.split("\n\n").filter_map(parse_description).collect())
}

fn parse_description(paragraph: &str) -> Option<Described> {
    let field = |name: &str| {
        paragraph
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            .map(|value| value.trim().to_owned())
    };
    // A name may be followed by a version in parentheses and, in Depends, by an architecture after a colon.
    let bare = |text: &str| text.split([' ', ':', '(']).next().unwrap_or_default().to_owned();
    let name = field("Package")?;
    let depends = ["Depends", "Pre-Depends"]
        .into_iter()
        .filter_map(field)
        .flat_map(|list| list.split(", ").map(str::to_owned).collect::<Vec<_>>())
        .map(|alternatives| alternatives.split(" | ").map(bare).collect())
        .collect();
    Some(Described {
        source: field("Source").map_or_else(|| name.clone(), |source| bare(&source)),
        version: field("Version")?,
        name,
        depends,
    })
}

/// Adds what the packages need and this system lacks. Packages built from the same source as a wanted one are always taken:
/// they fit only in the same version.
fn with_dependencies(roots: &[String]) -> Result<Vec<String>> {
    let installed = installed_packages()?;
    let sources: BTreeSet<String> = describe(roots)?.into_iter().map(|described| described.source).collect();
    let mut taken = BTreeSet::new();
    let mut open = roots.to_vec();
    while !open.is_empty() {
        let described = describe(&open)?;
        let mut next = BTreeSet::new();
        for package in described {
            let is_wanted = roots.contains(&package.name)
                || sources.contains(&package.source)
                || !installed.contains(&package.name);
            if !is_wanted || !taken.insert(package.name) {
                continue;
            }
            for alternatives in package.depends {
                // A C compiler and its library serve the host's own builds, and whoever has built this program has them.
                let is_there = alternatives.iter().any(|name| is_of_the_host(name));
                if let (false, Some(first)) = (is_there, alternatives.into_iter().next()) {
                    next.insert(first);
                }
            }
        }
        open = next.into_iter().filter(|name| !taken.contains(name)).collect();
    }
    Ok(taken.into_iter().collect())
}

fn is_of_the_host(package: &str) -> bool {
    const PREFIXES: [&str; 9] =
        ["gcc", "libc6", "libc-dev", "libgcc", "libstdc++", "libobjc", "binutils", "dpkg", "python3"];
    PREFIXES.iter().any(|prefix| package.starts_with(prefix))
}

fn installed_packages() -> Result<BTreeSet<String>> {
    let list =
        run_quietly(Command::new("dpkg-query").args(["--show", "--showformat", "${db:Status-Abbrev} ${Package}\n"]))?;
    Ok(list.lines().filter_map(|line| line.strip_prefix("ii")?.split_whitespace().last().map(str::to_owned)).collect())
}

fn download_and_unpack(packages: &[String], root: &PrivateRoot) -> Result<()> {
    let downloads = output_root().join("downloads");
    fs::create_dir_all(&downloads)?;
    fs::create_dir_all(root.path())?;
    let mut download = Command::new("apt-get");
    // As root, apt would download as a user of its own, who may not write here.
    download.args(["download", "-qq", "-o", "APT::Sandbox::User="]).args(packages).current_dir(&downloads);
    if run_quietly(&mut download).is_err() {
        refresh_package_lists()?;
        run_quietly(&mut download)?;
    }
    let mut unpacked = 0;
    for entry in fs::read_dir(&downloads)? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            run_quietly(Command::new("dpkg").arg("--extract").arg(&file).arg(root.path()))?;
            unpacked += 1;
        }
    }
    fs::remove_dir_all(&downloads)?;
    if unpacked < packages.len() {
        bail!("only {unpacked} of {} packages could be downloaded", packages.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{is_recent_rust, parse_description};

    #[test]
    fn a_package_s_description_gives_its_source_and_each_dependency_s_alternatives() {
        let text = "Package: cargo-web\nSource: rustc-web (1.96)\nVersion: 1.96.0+dfsg1-1\nDepends: libc6 (>= 2.34), \
                    binutils, gcc | clang:any | c-compiler\nPre-Depends: dpkg";
        let described = parse_description(text).expect("a whole description");
        assert_eq!((described.name.as_str(), described.source.as_str()), ("cargo-web", "rustc-web"));
        assert_eq!(described.version, "1.96.0+dfsg1-1");
        assert_eq!(
            described.depends,
            [vec!["libc6"], vec!["binutils"], vec!["gcc", "clang", "c-compiler"], vec!["dpkg"]]
        );
        assert!(parse_description("Source: nothing").is_none());
    }

    #[test]
    fn a_rust_package_is_taken_only_if_the_workspace_compiles_with_it() {
        assert!(is_recent_rust("1.96.0+dfsg1-1~deb12u2"));
        assert!(is_recent_rust("1.91.1+dfsg0ubuntu1-0"));
        assert!(!is_recent_rust("1.85.0+dfsg3-1"));
        assert!(!is_recent_rust("unknown"));
    }
}
