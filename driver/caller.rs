//! EvtIoInCallerContext: what only the caller's context can tell, before a request is queued and carried out in any thread.
#![allow(unsafe_code, reason = "takes a request from the framework")]

use crate::event_reference;
use crate::nt;
use crate::wdf::Request;
use san_protocol::{
    ALL_HANDLES, AddRouteRequest, ControlCode, ENDPOINTS_OF_ALL_HANDLES, EndpointsRequest, HandlesRequest, NtStatus,
    RemoveRouteRequest, Request as _,
};
use wdk_sys::{WDFDEVICE, WDFREQUEST};

/// EvtIoInCallerContext: looks at the request in its caller's context, and queues it. IRQL = PASSIVE_LEVEL.
pub(crate) unsafe extern "C" fn in_caller_context(device: WDFDEVICE, request: WDFREQUEST) {
    // SAFETY: the framework hands the request over with this call.
    let request = unsafe { Request::new(request) };
    let looked_at = match request.control_code().and_then(ControlCode::from_value) {
        Some(ControlCode::EventSelect) => event_reference::resolve(request),
        Some(code) => check_privilege(request, code),
        None => Ok(()),
    };
    if let Err(status) = looked_at.and_then(|()| request.enqueue(device)) {
        request.complete(status, 0);
    }
}

/// Whether the caller may ask for what is the administrators'. The device may be open to every user, so the access that a handle
/// was opened with does not tell. What is malformed is refused as such. IRQL = PASSIVE_LEVEL; in the caller's context.
fn check_privilege(request: Request, code: ControlCode) -> Result<(), NtStatus> {
    let is_administrators = match code {
        ControlCode::AddRoute => AddRouteRequest::read(request.input()).map(|_| true),
        ControlCode::RemoveRoute => RemoveRouteRequest::read(request.input()).map(|_| true),
        ControlCode::QueryEndpoints => {
            EndpointsRequest::read(request.input()).map(|asked| asked.header.flags & ENDPOINTS_OF_ALL_HANDLES != 0)
        }
        ControlCode::QueryHandles => {
            HandlesRequest::read(request.input()).map(|asked| asked.header.flags & ALL_HANDLES != 0)
        }
        ControlCode::QueryVersion
        | ControlCode::QueryStatus
        | ControlCode::QueryLimits
        | ControlCode::QueryRoutes
        | ControlCode::Create
        | ControlCode::SetOption
        | ControlCode::Bind
        | ControlCode::Connect
        | ControlCode::Listen
        | ControlCode::Accept
        | ControlCode::Send
        | ControlCode::Receive
        | ControlCode::Disconnect
        | ControlCode::QueryAddresses
        | ControlCode::Close
        | ControlCode::EventSelect
        | ControlCode::EnumNetworkEvents
        | ControlCode::Decide
        | ControlCode::Negotiate
        | ControlCode::RegisterMemory
        | ControlCode::QueryMemory
        | ControlCode::DeregisterMemory
        | ControlCode::SendRegistered
        | ControlCode::ReceiveRegistered
        | ControlCode::QueryStatistics
        | ControlCode::QueryDeviceStatistics => Ok(false),
    };
    if is_administrators? && !nt::may_load_drivers(request.requestor_mode()) {
        return Err(NtStatus::PRIVILEGE_NOT_HELD);
    }
    Ok(())
}
