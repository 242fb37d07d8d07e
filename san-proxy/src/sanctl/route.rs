//! `sanctl route`: the driver's map from SAN addresses to native ones.

use super::failure::{Failure, cannot_write};
use super::path::load_config;
use super::{Streams, report};
use crate::error::Error;
use crate::provider::Provider;
use crate::routes::{Route, RouteEntry, RouteOrigin};
use crate::switch::{Prefix, SubnetTable};
use serde_json::json;
use std::path::PathBuf;

pub(super) const EXAMPLES: &str = "\
Examples:
  sanctl route list
  sanctl route add 10.77.0.0/16 192.168.0.0/16 --san-only
  sanctl route add 10.77.3.9/32 192.168.9.1/32 --port 28058
  sanctl route remove 10.77.3.9/32

A SAN address of the first prefix stands for the native (TCP/IP) address of the second with the same last bits; of the
routes that hold an address the one with the longest prefix counts. What is added lasts until the driver is unloaded;
for ever, it is a line of the registry value Routes (REG_MULTI_SZ) in
HKLM\\SYSTEM\\CurrentControlSet\\Services\\sanwsk\\Parameters. To add and to remove is for administrators.";

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Show the driver's routes, and the subnets of the switch's file.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// The switch's file. Without it, the file that SANWSK_SWITCH names, if any.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Add a route, until the driver is unloaded.
    Add {
        /// SAN addresses, as in 10.77.0.0/16.
        #[arg(value_name = "SAN-PREFIX")]
        san: Prefix,
        /// Native addresses that they stand for, of the same family and length, as in 192.168.0.0/16.
        #[arg(value_name = "NATIVE-PREFIX")]
        native: Prefix,
        /// TCP port at which SAN connections arrive there; without it, this machine's own native port.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
        port: Option<u16>,
        /// TCP/IP does not reach the SAN addresses: what fails on the SAN fails for certain.
        #[arg(long)]
        san_only: bool,
    },
    /// Remove a route, until the driver is loaded again.
    Remove {
        /// Its SAN addresses, as sanctl route list shows them.
        #[arg(value_name = "SAN-PREFIX")]
        san: Prefix,
    },
}

impl Command {
    pub(super) fn run(
        &self,
        open: impl FnOnce() -> Result<Provider, Error>,
        streams: &mut Streams<'_>,
    ) -> Result<(), Failure> {
        match *self {
            Self::List { json, ref config } => {
                let (file, config) = load_config(config.as_ref())?;
                let entries = open()?.routes()?;
                let text =
                    if json { as_json(&entries, &config.subnets) } else { as_table(&entries, file, &config.subnets) };
                writeln!(streams.output, "{text}").map_err(cannot_write)
            }
            Self::Add { san, native, port, san_only } => {
                let route = Route { san, native, native_port: port, san_only };
                open()?.add_route(&route)?;
                let note =
                    "it lasts until the driver is unloaded; to keep it, add this line to the registry value Routes:";
                report(streams.errors, &note);
                writeln!(streams.output, "{route}").map_err(cannot_write)
            }
            Self::Remove { san } => {
                open()?.remove_route(san)?;
                let note = "a route that the registry value Routes has is back when the driver is loaded again";
                report(streams.errors, &note);
                Ok(())
            }
        }
    }
}

fn origin(entry: &RouteEntry) -> &'static str {
    match entry.origin {
        RouteOrigin::Registry => "registry",
        RouteOrigin::Request => "until unload",
    }
}

fn as_table(entries: &[RouteEntry], file: Option<PathBuf>, subnets: &SubnetTable) -> String {
    let mut lines = Vec::new();
    if entries.is_empty() {
        lines.push("The driver has no routes: every SAN address is its own native address.".to_owned());
    } else {
        lines.push(format!("{:<24} {:<24} {:>5}  {:<9} from", "SAN", "native", "port", "TCP/IP"));
    }
    for entry in entries {
        let Route { san, native, native_port, san_only } = entry.route;
        let port = native_port.map_or("own".to_owned(), |port| port.to_string());
        let tcp = if san_only { "no" } else { "reaches" };
        lines.push(format!("{:<24} {:<24} {port:>5}  {tcp:<9} {}", san.to_string(), native.to_string(), origin(entry)));
    }
    if let Some(file) = file {
        let count = subnets.iter().count();
        lines.push(format!("{} has {count} {}:", file.display(), if count == 1 { "subnet" } else { "subnets" }));
        lines.extend(subnets.iter().map(|subnet| {
            let local = subnet.local.map_or(String::new(), |local| format!(" from {local}"));
            format!("  {}{local}", subnet.prefix)
        }));
    }
    lines.join("\n")
}

fn as_json(entries: &[RouteEntry], subnets: &SubnetTable) -> String {
    let routes: Vec<_> = entries
        .iter()
        .map(|entry| {
            json!({
                "san": entry.route.san.to_string(),
                "native": entry.route.native.to_string(),
                "port": entry.route.native_port,
                "san_only": entry.route.san_only,
                "from_registry": entry.origin == RouteOrigin::Registry,
            })
        })
        .collect();
    let subnets: Vec<_> = subnets
        .iter()
        .map(|subnet| {
            json!({ "prefix": subnet.prefix.to_string(), "local": subnet.local.map(|local| local.to_string()) })
        })
        .collect();
    format!("{:#}", json!({ "routes": routes, "subnets": subnets }))
}
