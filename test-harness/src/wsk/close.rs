//! WskCloseSocket.

use wsk_bindings::WSK_SOCKET;

use super::operation::{Completion, begin};
use super::socket::{Action, Call, Direction, Phase};
use crate::guard::violate;
use crate::nt::status::{STATUS_CANCELLED, STATUS_SUCCESS};
use crate::nt::types::{IRP, NTSTATUS};
use crate::violation::Rule;

pub(super) extern "win64" fn WskCloseSocket(socket: *mut WSK_SOCKET, irp: *mut IRP) -> NTSTATUS {
    let call = Call::new(socket, "WskCloseSocket");
    let irp = begin(irp, "WskCloseSocket");
    let others = call.socket.other_callers();
    if others != 0 {
        violate(Rule::Wsk(33), format!("WskCloseSocket while {others} other threads are inside calls on the socket"));
    }
    let (wsk, socket) = (call.wsk.clone(), call.socket.clone());
    // From here on no call finds it. Cancel routines do, until they find their operations ended.
    wsk.sockets.lock().remove(&socket.address);
    let mut state = socket.state.lock();
    // One that is being indicated is not the client's yet.
    let kept = state.kept.iter().filter(|kept| state.indicated != Some(**kept)).count();
    if kept != 0 {
        drop(state);
        violate(Rule::Wsk(25), format!("WskCloseSocket while the client keeps {kept} indications"));
    }
    if state.connect.is_some() {
        drop(state);
        violate(Rule::Wsk(34), "WskCloseSocket while a WskConnect is pending: cancel it, and wait for it, first");
    }
    let orderly = state.sending == Direction::Ended && state.receiving == Direction::Ended;
    if let Some(endpoint) = state.endpoint.take()
        && matches!(state.phase, Phase::Connected | Phase::Connecting)
        && !orderly
    {
        endpoint.abort();
    }
    for (_, held) in std::mem::take(&mut state.held) {
        held.endpoint.abort();
        wsk.targets.lock().remove(&held.token);
    }
    for arrival in state.arrivals.drain(..) {
        arrival.endpoint.abort();
    }
    state.fail(&wsk, STATUS_CANCELLED);
    let accepts: Vec<_> = state.accepts.drain(..).collect();
    for operation in accepts {
        state.finish(&wsk, operation.ends(STATUS_CANCELLED));
    }
    state.phase = Phase::Closing;
    // No event after this; a callback that runs now ends before the close does, which stands behind it.
    state.actions.retain(|action| matches!(action, Action::Complete(_)));
    let busy = state.draining || !state.actions.is_empty() || state.is_cancelling();
    drop(state);
    socket.unlist(&wsk);
    let completion = Completion::new(irp, STATUS_SUCCESS, 0);
    socket.release(&wsk);
    if busy { completion_behind(&call, completion) } else { call.ended(completion) }
}

/// Completes the close after what the socket's operations have led to so far.
fn completion_behind(call: &Call, completion: Completion) -> NTSTATUS {
    crate::nt::irp::at(completion.irp as *mut IRP).mark_pending();
    call.socket.state.lock().close_behind(completion);
    call.socket.schedule(&call.wsk);
    crate::nt::status::STATUS_PENDING
}
