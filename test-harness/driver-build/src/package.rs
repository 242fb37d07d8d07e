//! Assembles the driver package: the folder that is installed from, apart from its catalog, which only Windows' Inf2Cat makes.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};

use crate::{Arch, Options, build, output_root, progress::run_quietly, workspace_root};

/// What goes into the package as it lies in the workspace, beside the image, its symbols and the INF.
const FILES: [&str; 10] = [
    "docs/pooltag.txt",
    "inf/README.txt",
    "inf/collect-support.ps1",
    "inf/install.ps1",
    "inf/uninstall.ps1",
    "inf/upgrade.ps1",
    "inf/verifier.ps1",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "SECURITY.md",
];

/// A date of the Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    /// The year, of four digits.
    pub year: u64,
    /// 1 to 12.
    pub month: u64,
    /// 1 to 31.
    pub day: u64,
}

impl Date {
    /// The date of a build: `SOURCE_DATE_EPOCH` where that is set, as for builds that are to be repeated; else today.
    #[must_use]
    pub fn of_build() -> Self {
        let chosen = env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok());
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self::after_epoch(chosen.unwrap_or_else(now))
    }

    /// The date, so many seconds after 1970 began.
    #[must_use]
    pub fn after_epoch(seconds: u64) -> Self {
        // Counted from 1 March 2000 back by whole eras of 400 years, so that a leap day ends its year.
        const DAYS_OF_ERA: u64 = 146_097;
        let days = seconds / 86_400 + 719_468;
        let (era, day_of_era) = (days / DAYS_OF_ERA, days % DAYS_OF_ERA);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        Self { year, month, day: day_of_year - (153 * shifted + 2) / 5 + 1 }
    }
}

/// What an INX leaves open.
#[derive(Clone, Debug)]
pub struct Stamp {
    /// The processor.
    pub arch: Arch,
    /// Of DriverVer.
    pub date: Date,
    /// Of DriverVer, and of the image: four numbers.
    pub version: String,
    /// The KMDF that the driver is built for, as `1.31`.
    pub kmdf: String,
}

impl Stamp {
    /// Of this workspace, as it is.
    ///
    /// # Errors
    /// Cargo.toml cannot be read, or does not say for which KMDF.
    pub fn of_workspace(arch: Arch, date: Date) -> Result<Self> {
        let manifest = fs::read_to_string(workspace_root().join("Cargo.toml"))?;
        let value = |key: &str| {
            let found = manifest.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix('='));
            found.map(str::trim).with_context(|| format!("Cargo.toml has no {key}"))
        };
        let kmdf = format!("{}.{}", value("kmdf-version-major")?, value("target-kmdf-version-minor")?);
        Ok(Self { arch, date, version: version(), kmdf })
    }

    /// The INF that is made of an INX, as stampinf makes it.
    #[must_use]
    pub fn inf(&self, inx: &str) -> String {
        let arch = match self.arch {
            Arch::X64 => "amd64",
            Arch::Arm64 => "arm64",
        };
        let Date { year, month, day } = self.date;
        let driver_ver = format!("DriverVer   = {month:02}/{day:02}/{year},{}", self.version);
        let line = |line: &str| {
            let is_driver_ver = line.split('=').next().is_some_and(|key| key.trim() == "DriverVer");
            let line = if is_driver_ver { &driver_ver } else { line };
            // As Windows' editors and the INF parser of every version like it.
            line.replace("$ARCH$", arch).replace("$KMDFVERSION$", &self.kmdf) + "\r\n"
        };
        inx.lines().map(line).collect()
    }
}

/// The version of crates, INF and image, with the fourth number that Windows' versions have.
#[must_use]
pub fn version() -> String {
    format!("{}.0", env!("CARGO_PKG_VERSION"))
}

/// Builds the driver and assembles its package; the folder. With `test_sign` the image is signed by a certificate for tests,
/// which lies in the package.
///
/// # Errors
/// The driver cannot be built, or openssl or osslsigncode is missing or fails.
pub fn assemble(options: &Options, date: Date, test_sign: bool) -> Result<PathBuf> {
    let artifacts = build(options)?;
    let folder = output_root().join("package").join(options.arch.name());
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let image = folder.join("sanwsk.sys");
    copy(&artifacts.image, &image)?;
    copy(&artifacts.symbols, &folder.join("sanwsk.pdb"))?;
    let inx = fs::read_to_string(workspace_root().join("inf/sanwsk.inx")).context("cannot read inf/sanwsk.inx")?;
    fs::write(folder.join("sanwsk.inf"), Stamp::of_workspace(options.arch, date)?.inf(&inx))?;
    for file in FILES {
        let from = workspace_root().join(file);
        copy(&from, &folder.join(from.file_name().context("a file")?))?;
    }
    if test_sign {
        let certificate = TestCertificate::find_or_make()?;
        certificate.sign(&image)?;
        copy(&certificate.for_windows(), &folder.join("sanwsk-test.cer"))?;
    }
    Ok(folder)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

/// A certificate that signs itself, made once and kept under `target/driver`; whoever installs the driver has to trust it.
struct TestCertificate(PathBuf);

impl TestCertificate {
    fn find_or_make() -> Result<Self> {
        let folder = output_root().join("test-certificate");
        let certificate = Self(folder);
        if certificate.for_windows().exists() {
            return Ok(certificate);
        }
        fs::create_dir_all(&certificate.0)?;
        let mut request = Command::new("openssl");
        request.args(["req", "-x509", "-newkey", "rsa:3072", "-sha256", "-nodes", "-days", "365"]);
        request.args(["-subj", "/CN=sanwsk test certificate", "-addext", "extendedKeyUsage=codeSigning"]);
        request.arg("-keyout").arg(certificate.key()).arg("-out").arg(certificate.chain());
        run_quietly(&mut request).context("openssl makes the test certificate")?;
        let mut convert = Command::new("openssl");
        convert.args(["x509", "-outform", "DER", "-in"]).arg(certificate.chain());
        run_quietly(convert.arg("-out").arg(certificate.for_windows())).context("openssl writes the certificate")?;
        Ok(certificate)
    }

    fn key(&self) -> PathBuf {
        self.0.join("key.pem")
    }

    fn chain(&self) -> PathBuf {
        self.0.join("certificate.pem")
    }

    fn for_windows(&self) -> PathBuf {
        self.0.join("sanwsk-test.cer")
    }

    /// Signs an image in its place, and verifies what came of it.
    fn sign(&self, image: &Path) -> Result<()> {
        let signed = image.with_added_extension("signed");
        let mut sign = Command::new("osslsigncode");
        sign.args(["sign", "-h", "sha256", "-n", "sanwsk", "-certs"]).arg(self.chain()).arg("-key").arg(self.key());
        run_quietly(sign.arg("-in").arg(image).arg("-out").arg(&signed))
            .context("osslsigncode signs the image; it comes with the package osslsigncode")?;
        fs::rename(&signed, image)?;
        let mut verify = Command::new("osslsigncode");
        let said = run_quietly(verify.args(["verify", "-CAfile"]).arg(self.chain()).arg("-in").arg(image))
            .context("osslsigncode verifies the image")?;
        if !said.contains("Signature verification: ok") {
            bail!("the signed image does not verify:\n{said}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Date;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let date = |year, month, day| Date { year, month, day };
        for (days, expected) in [
            (0, date(1970, 1, 1)),
            (58, date(1970, 2, 28)),
            (59, date(1970, 3, 1)),
            (11_016, date(2000, 2, 29)),
            (11_017, date(2000, 3, 1)),
            (19_782, date(2024, 2, 29)),
            (20_454, date(2026, 1, 1)),
            (47_540, date(2100, 2, 28)),
            (47_541, date(2100, 3, 1)),
        ] {
            assert_eq!(Date::after_epoch(days * 86_400 + 86_399), expected, "{days} days");
        }
    }
}
