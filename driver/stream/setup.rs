//! Bind and connect: WSK calls one after the other, each started when the one before is completed.
#![allow(unsafe_code, reason = "gives the socket its reference to the endpoint")]

use super::teardown::SetupUnderWay;
use super::{Endpoint, LISTEN_DISPATCH, Role, refused};
use crate::continuation;
use crate::endpoint::AnyEndpoint;
use crate::issuer::Issuer;
use crate::nt::{Outcome, Shared};
use crate::operation::{Arguments, Kind, Operation, Pending};
use crate::statistics::STATISTICS;
use crate::trace;
use crate::wsk::{Category, OptionName, SockAddr, Socket, socket_connect, wsk_socket};
use core::net::SocketAddr;
use san_core::connect_failure::ConnectFailure;
use san_core::connection::Origin;
use san_protocol::{AddressReply, NtStatus};
use wdk_sys::{NTSTATUS, PIRP};
use zerocopy::IntoBytes;

/// A bind or connect on its way.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    goal: Goal,
    step: Step,
    listening: bool,
    target: SockAddr,
}

#[derive(Clone, Copy)]
enum Goal {
    Bind,
    Connect,
}

/// The WSK call that is out.
#[derive(Clone, Copy)]
enum Step {
    /// WskSocket.
    Open,
    /// WskSocketConnect.
    OpenAndConnect,
    /// WskControlSocket(SO_CONDITIONAL_ACCEPT), before bind as WSK demands.
    ConditionalAccept,
    /// WskControlSocket for an option; then the first one set at or behind this position.
    Option(usize),
    /// WskBind.
    Bind,
    /// WskConnect.
    Connect,
    /// WskGetLocalAddress.
    LocalAddress,
    /// WskCloseSocket, after this failure.
    Abandon(NtStatus),
}

/// What follows on a step.
enum Next {
    Call(Step),
    Done(Result<(), NtStatus>),
}

impl Endpoint {
    /// Binds to `address`. Answered by an [`AddressReply`]. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn bind(this: &Shared<Self>, issuer: Issuer, address: SocketAddr) -> Result<(), NtStatus> {
        let pending = Operation::begin(issuer, AnyEndpoint::Stream(this.clone()), Kind::Wsk)?;
        let begun = {
            let mut inner = this.inner.lock();
            let begun = match &mut inner.role {
                Role::Connection(connection) => connection.begin_bind().map(|()| false),
                Role::Listener(listener) => listener.begin_bind().map(|()| true),
            };
            if begun.is_ok() {
                inner.setup = Some(SetupUnderWay::new(&pending));
            }
            begun
        };
        match begun {
            Ok(listening) => {
                let setup = Setup { goal: Goal::Bind, step: Step::Open, listening, target: address.into() };
                run(this, pending, setup, None);
            }
            Err(refusal) => pending.finish(refused(refusal), 0),
        }
        Ok(())
    }

    /// Connects to `address` within `timeout` milliseconds (0: as long as TCP tries). IRQL <= DISPATCH_LEVEL.
    pub(crate) fn connect(
        this: &Shared<Self>,
        issuer: Issuer,
        address: SocketAddr,
        timeout: u32,
    ) -> Result<(), NtStatus> {
        let pending = Operation::begin(issuer, AnyEndpoint::Stream(this.clone()), Kind::Wsk)?;
        let begun = {
            let mut inner = this.inner.lock();
            let begun = match &mut inner.role {
                Role::Connection(connection) => connection.begin_connect().map_err(refused),
                Role::Listener(_) => Err(NtStatus::NOT_SUPPORTED),
            };
            begun.map(|origin| {
                inner.setup = Some(SetupUnderWay::new(&pending));
                match origin {
                    Origin::BoundSocket => Step::Connect,
                    Origin::NoSocket if inner.options.next_from(0).is_none() => Step::OpenAndConnect,
                    Origin::NoSocket => Step::Open,
                }
            })
        };
        match begun {
            Ok(step) => {
                if timeout != 0 {
                    pending.expire_after(timeout);
                }
                trace::connecting(this.number(), &address.into());
                let setup = Setup { goal: Goal::Connect, step, listening: false, target: address.into() };
                run(this, pending, setup, None);
            }
            Err(status) => pending.finish(status, 0),
        }
        Ok(())
    }
}

/// Goes on with a setup whose call has ended elsewhere. IRQL = PASSIVE_LEVEL; on the continuation worker.
pub(crate) fn resume(endpoint: &Shared<Endpoint>, mut pending: Pending, outcome: Outcome) {
    if let Some(setup) = pending.arguments().setup {
        run(endpoint, pending, setup, Some(outcome));
    }
}

/// Makes the calls of a setup until one of them pends, or it is over. `outcome`: of the step that `setup` is at; none to
/// begin with it.
fn run(endpoint: &Shared<Endpoint>, mut pending: Pending, mut setup: Setup, mut outcome: Option<Outcome>) {
    loop {
        let next = match outcome {
            None => Next::Call(setup.step),
            Some(outcome) => setup.after(endpoint, &mut pending, outcome),
        };
        match next {
            Next::Done(result) => return finish(endpoint, pending, setup, result),
            Next::Call(step) => setup.step = step,
        }
        match setup.call(endpoint, pending) {
            None => return,
            Some((owner, ended)) => (pending, outcome) = (owner, Some(ended)),
        }
    }
}

impl Setup {
    /// What follows when the current step has ended with `outcome`.
    fn after(&self, endpoint: &Shared<Endpoint>, pending: &mut Pending, outcome: Outcome) -> Next {
        let result = if outcome.status.is_success() { Ok(()) } else { Err(outcome.status) };
        match (self.step, result) {
            (Step::Open | Step::OpenAndConnect, Err(status)) => Next::Done(Err(status)),
            (Step::Abandon(status), _) => {
                // SAFETY: the endpoint's socket, which that step closed.
                unsafe { Endpoint::closed(Shared::as_ptr(endpoint).cast(), outcome) };
                Next::Done(Err(status))
            }
            (
                Step::ConditionalAccept | Step::Option(_) | Step::Bind | Step::Connect | Step::LocalAddress,
                Err(status),
            ) => Next::Call(Step::Abandon(status)),
            (Step::Open | Step::OpenAndConnect, Ok(())) => {
                let Some(socket) = Socket::from_information(outcome.information) else {
                    return Next::Done(Err(NtStatus::UNSUCCESSFUL));
                };
                // The socket's reference to the endpoint, until `Endpoint::closed`.
                let _ = Shared::into_raw(endpoint.clone());
                endpoint.inner.lock().socket = Some(socket);
                match self.step {
                    Step::OpenAndConnect => Next::Call(Step::LocalAddress),
                    _ if self.listening => Next::Call(Step::ConditionalAccept),
                    _ => Self::option_or_bind(endpoint, 0),
                }
            }
            (Step::ConditionalAccept, Ok(())) => Self::option_or_bind(endpoint, 0),
            (Step::Option(next), Ok(())) => Self::option_or_bind(endpoint, next),
            (Step::Bind, Ok(())) => match self.goal {
                Goal::Bind => Next::Call(Step::LocalAddress),
                Goal::Connect => Next::Call(Step::Connect),
            },
            (Step::Connect, Ok(())) => Next::Call(Step::LocalAddress),
            (Step::LocalAddress, Ok(())) => {
                let local = pending.arguments().address;
                endpoint.inner.lock().local = local;
                Next::Done(Ok(()))
            }
        }
    }

    /// The next option that is set, at or behind `position`, or else bind.
    fn option_or_bind(endpoint: &Endpoint, position: usize) -> Next {
        match endpoint.inner.lock().options.next_from(position) {
            Some(_) => Next::Call(Step::Option(position)),
            None => Next::Call(Step::Bind),
        }
    }

    /// Makes the call of the current step.
    fn call(&mut self, endpoint: &Shared<Endpoint>, mut pending: Pending) -> Option<(Pending, Outcome)> {
        let socket = endpoint.inner.lock().socket;
        let listening = self.listening;
        // What the call refers to has to outlive it, so it goes into the operation.
        let arguments = pending.arguments();
        arguments.setup = Some(*self);
        let on_socket =
            |call: &dyn Fn(Socket, PIRP, &mut Arguments) -> Option<NTSTATUS>, irp: PIRP, arguments: &mut Arguments| {
                socket.and_then(|socket| call(socket, irp, arguments))
            };
        match self.step {
            Step::Open => {
                let category = if listening {
                    Category::Listen(&LISTEN_DISPATCH, Shared::as_ptr(endpoint).cast())
                } else {
                    Category::Connection
                };
                pending.issue(later, |irp, _| {
                    wsk_socket(&endpoint.provider, endpoint.family, category, endpoint.process.as_ref(), irp)
                })
            }
            Step::OpenAndConnect => {
                arguments.address = SockAddr::wildcard(endpoint.family);
                arguments.remote = self.target;
                pending.issue(later, |irp, arguments| {
                    let process = endpoint.process.as_ref();
                    socket_connect(&endpoint.provider, &arguments.address, &arguments.remote, process, irp)
                })
            }
            Step::ConditionalAccept => {
                arguments.value = 1;
                let call = |socket: Socket, irp, arguments: &mut Arguments| {
                    socket.set_option(OptionName::ConditionalAccept, &arguments.value, irp)
                };
                pending.issue(later, |irp, arguments| on_socket(&call, irp, arguments))
            }
            Step::Option(position) => {
                let Some((option, on, next)) = endpoint.inner.lock().options.next_from(position) else {
                    return Some((pending, Outcome::SUCCESS));
                };
                self.step = Step::Option(next);
                arguments.setup = Some(*self);
                arguments.value = on.into();
                let call = move |socket: Socket, irp, arguments: &mut Arguments| {
                    socket.set_option(option, &arguments.value, irp)
                };
                pending.issue(later, |irp, arguments| on_socket(&call, irp, arguments))
            }
            Step::Bind => {
                arguments.address = match self.goal {
                    Goal::Bind => self.target,
                    Goal::Connect => SockAddr::wildcard(endpoint.family),
                };
                let call =
                    |socket: Socket, irp, arguments: &mut Arguments| socket.bind(listening, &arguments.address, irp);
                pending.issue(later, |irp, arguments| on_socket(&call, irp, arguments))
            }
            Step::Connect => {
                arguments.remote = self.target;
                let call = |socket: Socket, irp, arguments: &mut Arguments| socket.connect(&arguments.remote, irp);
                pending.issue(later, |irp, arguments| on_socket(&call, irp, arguments))
            }
            Step::LocalAddress => {
                let call = |socket: Socket, irp, arguments: &mut Arguments| {
                    socket.local_address(listening, &mut arguments.address, irp)
                };
                pending.issue(later, |irp, arguments| on_socket(&call, irp, arguments))
            }
            Step::Abandon(_) => {
                let socket = endpoint.inner.lock().socket.take();
                // SAFETY: teardown, the other user of the closer, waits until the setup is over.
                unsafe {
                    pending.issue_with(&endpoint.closer, later, |irp, _| socket.and_then(|socket| socket.close(irp)))
                }
            }
        }
    }
}

/// The call of a step has ended where no further one may be made: possibly inside the provider, possibly at DISPATCH_LEVEL.
fn later(pending: Pending, outcome: Outcome) {
    continuation::queue(pending, outcome);
}

/// The setup is over.
fn finish(endpoint: &Shared<Endpoint>, pending: Pending, setup: Setup, result: Result<(), NtStatus>) {
    let (closing, under_way) = {
        let mut inner = endpoint.inner.lock();
        match (&mut inner.role, result) {
            (Role::Connection(connection), Ok(())) => connection.setup_succeeded(),
            (Role::Connection(connection), Err(_)) => connection.setup_failed(),
            (Role::Listener(listener), Ok(())) => listener.setup_succeeded(),
            (Role::Listener(listener), Err(_)) => listener.setup_failed(),
        }
        match (result, setup.goal) {
            (Ok(()), Goal::Bind) => {}
            (Ok(()), Goal::Connect) => inner.remote = setup.target,
            (Err(_), Goal::Bind | Goal::Connect) => inner.local = SockAddr::NONE,
        }
        (!matches!(inner.teardown, super::Teardown::None), inner.setup.take())
    };
    drop(under_way);
    Endpoint::proceed_with_teardown(endpoint);
    let reply = match result {
        Ok(()) if closing => Err(NtStatus::CANCELLED),
        Err(NtStatus::CANCELLED) if pending.has_expired() => Err(NtStatus::IO_TIMEOUT),
        Err(status) => Err(status),
        Ok(()) => match setup.goal {
            Goal::Connect => Ok(0),
            Goal::Bind => {
                let address = endpoint.addresses().0.protocol();
                pending.issuer().reply(AddressReply { address }.as_bytes())
            }
        },
    };
    if matches!(setup.goal, Goal::Connect) {
        STATISTICS.stream_connected(reply.is_ok());
        match reply {
            Ok(_) => trace::connected(endpoint.number(), &setup.target),
            Err(status) => {
                let failure = ConnectFailure::of_native(status);
                trace::connect_failed(endpoint.number(), &setup.target, failure, status);
            }
        }
    }
    match reply {
        Ok(length) => pending.finish(NtStatus::SUCCESS, length),
        Err(status) => pending.finish(status, 0),
    }
}
