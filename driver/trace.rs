//! What happens here, told to Event Tracing for Windows: the provider `Sanwsk`, whose events describe themselves (TraceLogging).
//!
//! Where nobody has enabled the provider a function reads the level in force, which only the provider's callback changes, and
//! returns. Errors and warnings that a peer or a caller can bring about come [`FEW`] a second at most, and what informs
//! [`MANY`]; `Suppressed` in the next one says how many were left out. Verbose events are not limited: who asks for them wants
//! each. Addresses and sizes are told, bytes of messages and of private data never. Any IRQL, except where a function says
//! otherwise: what the events are made of is non-paged.
#![allow(unsafe_code, reason = "asks the kernel what time it is")]

mod provider;

use crate::wsk::SockAddr;
use core::sync::atomic::{AtomicU64, Ordering};
use provider::{Event, Kind, Level, Provider, Value, describe, describe_provider, description_length};
use san_core::concurrent::RateLimit;
use san_core::connect_failure::ConnectFailure;
use san_core::san::Incident;
use san_protocol::wire::RejectReason;
use san_protocol::{EndpointKind, NegotiateReply, NtStatus};
use wdk_sys::GUID;
use wdk_sys::ntddk::KeQueryUnbiasedInterruptTime;
use wsk_bindings::ADDRESS_FAMILY;

/// {6104ab46-1938-5ec2-5ede-f1b8bb7e2001}: what tools make of the name `Sanwsk`.
const ID: GUID =
    GUID { Data1: 0x6104_AB46, Data2: 0x1938, Data3: 0x5EC2, Data4: [0x5E, 0xDE, 0xF1, 0xB8, 0xBB, 0x7E, 0x20, 0x01] };

static PROVIDER: Provider = Provider::new(ID, &describe_provider::<9>("Sanwsk"));

/// Load, unload, the WSK provider NPI, native listeners, routes.
const DRIVER: u64 = 0x1;
/// Life of handles and endpoints.
const ENDPOINT: u64 = 0x2;
/// Connects, accepts, refusals, and how connections end.
const CONNECTION: u64 = 0x4;
/// Negotiations.
const SESSION: u64 = 0x8;
/// SAN messages, by their lengths.
const MESSAGE: u64 = 0x10;
/// Peers that break the protocol.
const VIOLATION: u64 = 0x20;
/// Limits of the registry that were hit.
const LIMIT: u64 = 0x40;

/// Errors and warnings of one kind in a second, at most.
const FEW: u32 = 32;
/// Informing events of one kind in a second, at most.
const MANY: u32 = 1024;

/// Tells an event: each one of a kind, or at most so many a second.
macro_rules! tell {
    ($name:literal, $level:ident, $keyword:ident, each $(, $field:literal: $kind:ident($value:expr))* $(,)?) => {
        if PROVIDER.is_enabled(Level::$level, $keyword) {
            const FIELDS: &[(&str, Kind)] = &[$(($field, Kind::$kind)),*];
            static DESCRIPTION: [u8; description_length($name, FIELDS)] = describe($name, FIELDS);
            static EVENT: Event = Event { level: Level::$level, keyword: $keyword, description: &DESCRIPTION };
            PROVIDER.write(&EVENT, &[$(Value::$kind($value)),*]);
        }
    };
    ($name:literal, $level:ident, $keyword:ident, at most $most:ident $(, $field:literal: $kind:ident($value:expr))* $(,)?) => {
        if PROVIDER.is_enabled(Level::$level, $keyword) {
            static RATE: RateLimit = RateLimit::new($most);
            if let Some(suppressed) = RATE.admit(now()) {
                tell!(
                    $name, $level, $keyword, each $(, $field: $kind($value))*, "Suppressed": Count(suppressed)
                );
            }
        }
    };
}

/// Interrupt time in units of 100 ns.
fn now() -> u64 {
    // SAFETY: reads a clock; at any IRQL.
    unsafe { KeQueryUnbiasedInterruptTime() }
}

/// Registers the provider. A system that cannot register it runs the driver untraced. IRQL = PASSIVE_LEVEL; from DriverEntry.
pub(crate) fn register() {
    PROVIDER.register();
}

/// Unregisters the provider, the last act of the driver. IRQL = PASSIVE_LEVEL.
pub(crate) fn unregister() {
    PROVIDER.unregister();
}

/// Numbers what events are about, apart from ids, which come later than an endpoint and go before it.
pub(crate) fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The driver is loaded. IRQL = PASSIVE_LEVEL.
pub(crate) fn loaded(native_port: u16) {
    let version = env!("CARGO_PKG_VERSION");
    tell!("DriverLoaded", Information, DRIVER, each, "Version": Text(version), "NativePort": Port(native_port),);
}

/// The driver could not be loaded. IRQL = PASSIVE_LEVEL.
pub(crate) fn load_failed(status: NtStatus) {
    tell!("DriverLoadFailed", Error, DRIVER, each, "Status": Status(status),);
}

/// Nothing is left of the driver's work. IRQL = PASSIVE_LEVEL.
pub(crate) fn unloaded() {
    tell!("DriverUnloaded", Information, DRIVER, each);
}

/// The WSK provider NPI is captured; `version`: its highest.
pub(crate) fn provider_attached(version: u32) {
    tell!("ProviderAttached", Information, DRIVER, each, "WskVersion": Hex(version),);
}

/// The WSK provider NPI cannot be had.
pub(crate) fn provider_failed(status: NtStatus) {
    tell!("ProviderFailed", Error, DRIVER, each, "Status": Status(status),);
}

/// The WSK provider NPI is released.
pub(crate) fn provider_detached() {
    tell!("ProviderDetached", Information, DRIVER, each);
}

/// A native listener stands.
pub(crate) fn native_listener_opened(family: ADDRESS_FAMILY) {
    tell!("NativeListenerOpened", Information, DRIVER, at most MANY, "Family": Family(family),);
}

/// A native listener is closed, for the driver is being unloaded.
pub(crate) fn native_listener_closed(family: ADDRESS_FAMILY) {
    tell!("NativeListenerClosed", Information, DRIVER, at most MANY, "Family": Family(family),);
}

/// A native listener could not be opened, or has been lost.
pub(crate) fn native_listener_failed(family: ADDRESS_FAMILY, status: NtStatus) {
    tell!("NativeListenerFailed", Warning, DRIVER, at most FEW,
        "Family": Family(family), "Status": Status(status),);
}

fn kind_name(kind: EndpointKind) -> &'static str {
    match kind {
        EndpointKind::StreamConnection => "stream connection",
        EndpointKind::StreamListener => "stream listener",
        EndpointKind::San => "SAN endpoint",
    }
}

/// There is a new endpoint.
pub(crate) fn endpoint_created(number: u64, kind: EndpointKind) {
    let kind = kind_name(kind);
    tell!("EndpointCreated", Information, ENDPOINT, at most MANY, "Endpoint": Number(number), "Kind": Text(kind),);
}

/// An endpoint has got the id that its owner names it by.
pub(crate) fn endpoint_named(number: u64, id: u64, process: u32) {
    tell!("EndpointNamed", Information, ENDPOINT, at most MANY,
        "Endpoint": Number(number), "Id": Id(id), "Process": Process(process),);
}

/// An endpoint is being closed: its teardown begins.
pub(crate) fn endpoint_closing(number: u64) {
    tell!("EndpointClosing", Information, ENDPOINT, at most MANY, "Endpoint": Number(number),);
}

/// Nothing is left of an endpoint.
pub(crate) fn endpoint_gone(number: u64) {
    tell!("EndpointGone", Information, ENDPOINT, at most MANY, "Endpoint": Number(number),);
}

/// Somebody has opened the device; process 0: a client in the kernel.
pub(crate) fn handle_opened(process: u32) {
    tell!("HandleOpened", Information, ENDPOINT, at most MANY, "Process": Process(process),);
}

/// A handle is being closed: the teardown of its endpoints begins.
pub(crate) fn handle_closing(process: u32) {
    tell!("HandleClosing", Information, ENDPOINT, at most MANY, "Process": Process(process),);
}

/// An endpoint wants a connection.
pub(crate) fn connecting(number: u64, remote: &SockAddr) {
    tell!("Connecting", Information, CONNECTION, at most MANY,
        "Endpoint": Number(number), "Remote": Address(remote),);
}

/// An endpoint is connected.
pub(crate) fn connected(number: u64, remote: &SockAddr) {
    tell!("Connected", Information, CONNECTION, at most MANY,
        "Endpoint": Number(number), "Remote": Address(remote),);
}

/// An endpoint could not be connected; `status`: what its owner is told. A status of WSK that is no cause known here is told
/// instead.
pub(crate) fn connect_failed(number: u64, remote: &SockAddr, failure: ConnectFailure, status: NtStatus) {
    let status = match failure {
        ConnectFailure::Unknown(cause) => cause,
        _ => status,
    };
    tell!("ConnectFailed", Warning, CONNECTION, at most FEW,
        "Endpoint": Number(number), "Remote": Address(remote),
        "Cause": Text(failure.cause()), "Status": Status(status),);
}

/// A connection has been let in.
pub(crate) fn accepted(number: u64, remote: &SockAddr) {
    tell!("Accepted", Information, CONNECTION, at most MANY,
        "Endpoint": Number(number), "Remote": Address(remote),);
}

/// A peer has been turned away, and why.
pub(crate) fn refused(remote: &SockAddr, why: &str) {
    tell!("PeerRefused", Warning, CONNECTION, at most FEW,
        "Remote": Address(remote), "Why": Text(why),);
}

/// A connection that stood has ended.
pub(crate) fn connection_ended(number: u64, remote: &SockAddr, status: NtStatus) {
    tell!("ConnectionEnded", Information, CONNECTION, at most MANY,
        "Endpoint": Number(number), "Remote": Address(remote),
        "Status": Status(status),);
}

/// A peer has broken the protocol, which ends its connection.
pub(crate) fn violated(number: u64, remote: &SockAddr) {
    tell!("ProtocolViolation", Error, VIOLATION, at most FEW,
        "Endpoint": Number(number), "Remote": Address(remote),);
}

/// What has happened to a SAN endpoint; `remote`: its peer.
pub(crate) fn incident(number: u64, remote: &SockAddr, incident: Incident) {
    match incident {
        Incident::Connected => connected(number, remote),
        Incident::ConnectFailed(failure, status) => connect_failed(number, remote, failure, status),
        Incident::Rejected(reason) => refused(remote, rejection(reason)),
        Incident::HandshakeTimedOut => refused(remote, "it has not said in time what it wants"),
        Incident::Violation => violated(number, remote),
        Incident::Ended(status) => connection_ended(number, remote, status),
    }
}

fn rejection(reason: RejectReason) -> &'static str {
    match reason {
        RejectReason::NobodyListens => "nobody listens at the SAN address and port",
        RejectReason::BacklogFull => "the listener's backlog is full",
        RejectReason::Refused => "the application refused it",
        RejectReason::NoSuchAddress => "the SAN address is none of this machine's, or not that of the peer",
        RejectReason::Busy => "too many hand-shakes are under way",
        RejectReason::Version => "it speaks another version of the protocol",
    }
}

/// Both sides of a session have said what they want of it.
pub(crate) fn negotiated(number: u64, peer: &NegotiateReply) {
    tell!("SessionNegotiated", Information, SESSION, at most MANY,
        "Endpoint": Number(number), "PeerReceives": Count(peer.receive_count),
        "PeerReceiveSize": Count(peer.receive_size), "PrivateLength": Count(peer.private_length),);
}

/// A request is refused because of a limit; `parameter`: the registry value that sets it.
pub(crate) fn limit_hit(parameter: &str) {
    tell!("LimitHit", Warning, LIMIT, at most FEW, "Parameter": Text(parameter),);
}

/// A SAN message has been sent.
#[inline]
pub(crate) fn sent(number: u64, length: u32) {
    tell!("MessageSent", Verbose, MESSAGE, each, "Endpoint": Number(number), "Length": Count(length),);
}

/// A SAN message has been received.
#[inline]
pub(crate) fn received(number: u64, length: u32) {
    tell!("MessageReceived", Verbose, MESSAGE, each, "Endpoint": Number(number), "Length": Count(length),);
}
