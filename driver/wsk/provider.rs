//! Registration with the WSK subsystem and capture of its provider NPI.
#![allow(unsafe_code, reason = "registers with WSK and keeps what it writes in a static")]

use crate::nt::{Rundown, RundownGuard, SpinLock};
use crate::parameters;
use crate::statistics::{Limit, STATISTICS};
use crate::trace;
use crate::wdf;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr;
use san_core::concurrent::Budget;
use san_protocol::{NtStatus, ProviderState, StatusReply};
use wsk_bindings::{
    MAKE_WSK_VERSION, NPI_WSK_INTERFACE_ID, WSK_CLIENT_DISPATCH, WSK_CLIENT_NPI, WSK_EVENT_ACCEPT,
    WSK_EVENT_CALLBACK_CONTROL, WSK_INFINITE_WAIT, WSK_PROVIDER_DISPATCH, WSK_PROVIDER_NPI, WSK_REGISTRATION,
    WSK_SET_STATIC_EVENT_CALLBACKS, WskCaptureProviderNPI, WskDeregister, WskRegister, WskReleaseProviderNPI,
};

/// This driver as a WSK client. Wants version 1.0, which every provider offers.
static CLIENT_DISPATCH: WSK_CLIENT_DISPATCH =
    WSK_CLIENT_DISPATCH { Version: MAKE_WSK_VERSION(1, 0), Reserved: 0, WskClientEvent: None };

/// The one registration of this driver.
pub(crate) static PROVIDER: Provider = Provider {
    registration: UnsafeCell::new(MaybeUninit::uninit()),
    capture: SpinLock::new(Capture::Unregistered),
    uses: Rundown::new(),
    endpoints: Budget::new(),
};

/// How far the capture has come.
#[derive(Clone, Copy)]
enum Capture {
    Unregistered,
    Waiting,
    Captured(WSK_PROVIDER_NPI, u32),
    Failed(NtStatus),
    Ended,
}

// SAFETY: the NPI's pointers are the provider's and may be used by any thread until the NPI is released.
unsafe impl Send for Capture {}

/// The registration with WSK. Begins in DriverEntry, ends at unload.
pub(crate) struct Provider {
    registration: UnsafeCell<MaybeUninit<WSK_REGISTRATION>>,
    capture: SpinLock<Capture>,
    uses: Rundown,
    endpoints: Budget,
}

// SAFETY: `registration` is WSK's own between register and deregister; the rest synchronizes itself.
unsafe impl Sync for Provider {}

/// The captured NPI in use: it is not released while this exists. One for every endpoint.
pub(crate) struct ProviderUse {
    npi: WSK_PROVIDER_NPI,
    /// Whether it is counted as an endpoint.
    endpoint: bool,
    /// Dropped last: it lets unload go on.
    guard: RundownGuard,
}

// SAFETY: as for `Capture`.
unsafe impl Send for ProviderUse {}
// SAFETY: as for `Capture`.
unsafe impl Sync for ProviderUse {}

impl Provider {
    fn registration(&self) -> *mut WSK_REGISTRATION {
        self.registration.get().cast()
    }

    /// Registers with WSK. IRQL = PASSIVE_LEVEL; once, from DriverEntry.
    pub(crate) fn register(&self) -> Result<(), NtStatus> {
        let mut client = WSK_CLIENT_NPI { ClientContext: ptr::null_mut(), Dispatch: &raw const CLIENT_DISPATCH };
        // SAFETY: dispatch table and registration are static; the NPI structure is read during the call only.
        wdf::check(unsafe { WskRegister(&raw mut client, self.registration()) })?;
        *self.capture.lock() = Capture::Waiting;
        Ok(())
    }

    /// Waits for the provider NPI and captures it; [`Provider::end`] ends the wait. IRQL = PASSIVE_LEVEL; on a worker.
    pub(crate) fn capture(&self) {
        let mut npi = MaybeUninit::<WSK_PROVIDER_NPI>::zeroed();
        // SAFETY: registered; the out parameter is a local.
        let status = unsafe { WskCaptureProviderNPI(self.registration(), WSK_INFINITE_WAIT, npi.as_mut_ptr()) };
        if let Err(status) = wdf::check(status) {
            self.settle(Capture::Failed(status));
            return;
        }
        // SAFETY: a successful capture has written it.
        let npi = unsafe { npi.assume_init() };
        let settled = match Self::enable_accept_events(&npi) {
            Ok(version) => self.settle(Capture::Captured(npi, version)),
            Err(status) => {
                self.settle(Capture::Failed(status));
                false
            }
        };
        if !settled {
            // SAFETY: captured above, and no endpoint has come to know it.
            unsafe { WskReleaseProviderNPI(self.registration()) };
        }
    }

    /// Stores how the capture went, unless the driver is unloading.
    fn settle(&self, outcome: Capture) -> bool {
        match outcome {
            Capture::Captured(_, version) => trace::provider_attached(version),
            Capture::Failed(status) => trace::provider_failed(status),
            Capture::Unregistered | Capture::Waiting | Capture::Ended => {}
        }
        let mut capture = self.capture.lock();
        match *capture {
            Capture::Waiting => {
                *capture = outcome;
                true
            }
            Capture::Unregistered | Capture::Captured(..) | Capture::Failed(_) | Capture::Ended => false,
        }
    }

    /// Turns WskAcceptEvent on for every listening socket to come, before there is any; returns the provider's version.
    fn enable_accept_events(npi: &WSK_PROVIDER_NPI) -> Result<u32, NtStatus> {
        // SAFETY: the NPI is captured, so its dispatch table is there.
        let dispatch = unsafe { &*npi.Dispatch };
        let mut control =
            WSK_EVENT_CALLBACK_CONTROL { NpiId: &raw const NPI_WSK_INTERFACE_ID, EventMask: WSK_EVENT_ACCEPT };
        let Some(control_client) = dispatch.WskControlClient else { return Err(NtStatus::NOINTERFACE) };
        // SAFETY: a control that takes no IRP; its input is a local that is read during the call.
        wdf::check(unsafe {
            control_client(
                npi.Client,
                WSK_SET_STATIC_EVENT_CALLBACKS,
                size_of::<WSK_EVENT_CALLBACK_CONTROL>() as _,
                (&raw mut control).cast(),
                0,
                ptr::null_mut(),
                ptr::null_mut(),
                ptr::null_mut(),
            )
        })?;
        Ok(u32::from(dispatch.Version))
    }

    /// The NPI, for a new endpoint. IRQL <= DISPATCH_LEVEL.
    ///
    /// `STATUS_DEVICE_NOT_READY` until it is captured; what the capture failed with, if it has; `STATUS_TOO_MANY_OPENED_FILES`
    /// at the limit of endpoints.
    pub(crate) fn acquire(&'static self) -> Result<ProviderUse, NtStatus> {
        let (npi, guard) = self.captured()?;
        self.count_endpoint()?;
        Ok(ProviderUse { npi, endpoint: true, guard })
    }

    /// The NPI for a listener of the driver's own: to keep, and for the call that opens it. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn acquire_for_listener(&'static self) -> Result<(ProviderUse, ProviderUse), NtStatus> {
        let (npi, kept) = self.captured()?;
        let used = kept.another().ok_or(NtStatus::DEVICE_NOT_READY)?;
        Ok((ProviderUse { npi, endpoint: false, guard: kept }, ProviderUse { npi, endpoint: false, guard: used }))
    }

    fn captured(&'static self) -> Result<(WSK_PROVIDER_NPI, RundownGuard), NtStatus> {
        let npi = match *self.capture.lock() {
            Capture::Captured(npi, _) => npi,
            Capture::Failed(status) => return Err(status),
            Capture::Unregistered | Capture::Waiting | Capture::Ended => return Err(NtStatus::DEVICE_NOT_READY),
        };
        let guard = self.uses.acquire().ok_or(NtStatus::DEVICE_NOT_READY)?;
        Ok((npi, guard))
    }

    /// Counts an endpoint in, unless there are as many as there may be.
    fn count_endpoint(&self) -> Result<(), NtStatus> {
        if self.endpoints.take(1, parameters::get().endpoints.into()) {
            return Ok(());
        }
        STATISTICS.limit_hit(Limit::Endpoints);
        Err(NtStatus::TOO_MANY_OPENED_FILES)
    }

    /// What the device says of itself. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn status(&self) -> StatusReply {
        let (provider, capture_status, wsk_version) = match *self.capture.lock() {
            Capture::Unregistered | Capture::Waiting => (ProviderState::Capturing, NtStatus::PENDING, 0),
            Capture::Captured(_, version) => (ProviderState::Ready, NtStatus::SUCCESS, version),
            Capture::Failed(status) => (ProviderState::Failed, status, 0),
            Capture::Ended => (ProviderState::Failed, NtStatus::DEVICE_NOT_READY, 0),
        };
        // As many as a parameter of 32 bits allows.
        let endpoints = u32::try_from(self.endpoints.taken()).unwrap_or(u32::MAX);
        StatusReply { provider: provider as u32, capture_status: capture_status.0, wsk_version, endpoints }
    }

    /// Ends the registration, in the documented order: no new uses, wait for those there are, release, deregister.
    /// IRQL = PASSIVE_LEVEL; once, at unload or when DriverEntry fails.
    pub(crate) fn end(&'static self) {
        let capture = core::mem::replace(&mut *self.capture.lock(), Capture::Ended);
        self.uses.wait();
        match capture {
            Capture::Unregistered | Capture::Ended => return,
            Capture::Waiting | Capture::Failed(_) => {}
            // SAFETY: captured once, and the last use has ended.
            Capture::Captured(..) => unsafe { WskReleaseProviderNPI(self.registration()) },
        }
        trace::provider_detached();
        // SAFETY: registered once; this ends a capture that still waits, and waits for it.
        unsafe { WskDeregister(self.registration()) };
    }
}

impl ProviderUse {
    /// A further use, for a connection that a listener lets in. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn another(&self) -> Option<Self> {
        let guard = self.guard.another()?;
        PROVIDER.count_endpoint().ok()?;
        Some(Self { npi: self.npi, endpoint: true, guard })
    }

    pub(super) fn client(&self) -> *mut core::ffi::c_void {
        self.npi.Client.cast()
    }

    pub(super) fn dispatch(&self) -> &WSK_PROVIDER_DISPATCH {
        // SAFETY: the table stays until the NPI is released, which waits for this use.
        unsafe { &*self.npi.Dispatch }
    }
}

impl Drop for ProviderUse {
    fn drop(&mut self) {
        if !self.endpoint {
            return;
        }
        PROVIDER.endpoints.give_back(1);
    }
}
