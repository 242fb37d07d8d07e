//! Links the driver as a KMDF driver, the way wdk-build says for the installed WDK (or the stand-in for it).

fn main() -> Result<(), wdk_build::ConfigError> {
    wdk_build::configure_wdk_binary_build()
}
