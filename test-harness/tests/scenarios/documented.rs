//! What `docs/ioctl.md` says that each request may complete with.

use san_protocol::{ControlCode, LAYOUTS, NtStatus};
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

const PAGE: &str = include_str!("../../../docs/ioctl.md");

/// The section whose statuses belong to every request.
const EVERY: &str = "Every request";

/// Those whose statuses belong to requests that name an endpoint.
const OF_ENDPOINTS: [&str; 3] = ["The end of a connection", "After a connect that failed", "The end of a stream"];

/// Whether the page names the status for the request, by itself or for all.
pub(crate) fn is_documented(code: ControlCode, status: NtStatus) -> bool {
    static PAGES: LazyLock<HashMap<&str, HashSet<&str>>> = LazyLock::new(sections);
    let name = status.name().unwrap_or("a status without a name");
    let own = format!("{code:?}");
    let of_endpoints = OF_ENDPOINTS.into_iter().filter(|_| names_an_endpoint(code));
    status == NtStatus::SUCCESS
        || of_endpoints.chain([EVERY, &own]).any(|title| PAGES.get(title).is_some_and(|names| names.contains(name)))
}

fn names_an_endpoint(code: ControlCode) -> bool {
    let layout = LAYOUTS.iter().find(|layout| layout.name == code.input().name);
    layout.is_some_and(|layout| layout.fields.iter().any(|field| field.name == "endpoint"))
}

/// The statuses that each section names.
fn sections() -> HashMap<&'static str, HashSet<&'static str>> {
    let mut sections = HashMap::<_, HashSet<_>>::new();
    let mut title = "";
    for line in PAGE.lines() {
        if line.starts_with('#') {
            title = line.trim_start_matches('#').trim();
        }
        let words = line.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        sections.entry(title).or_default().extend(words.filter(|word| word.starts_with("STATUS_")));
    }
    sections
}

#[test]
fn the_page_is_read() {
    assert!(is_documented(ControlCode::Connect, NtStatus::CONNECTION_REFUSED));
    assert!(is_documented(ControlCode::Send, NtStatus::CANCELLED));
    assert!(is_documented(ControlCode::RegisterMemory, NtStatus::CONNECTION_REFUSED));
    assert!(!is_documented(ControlCode::QueryVersion, NtStatus::CONNECTION_REFUSED));
    assert!(!is_documented(ControlCode::Connect, NtStatus(-1)));
}
