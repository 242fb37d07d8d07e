//! The driver, through one handle.

use crate::device::{Completed, Device, DeviceRequest, Event};
use crate::error::{Error, Operation};
use crate::pending::Pending;
use san_protocol::{ControlCode, DeviceLimits, DeviceStatistics, NtStatus, ProviderState, StatusReply, VersionReply};
use std::fmt;
use std::sync::Arc;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The driver, through one handle of its device. Clones share the handle; with the last clone, and the last endpoint made
/// through it, the handle is closed.
#[derive(Clone)]
pub struct Provider {
    device: Arc<dyn Device>,
}

/// Which driver this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Major, minor, patch.
    pub driver: [u32; 3],
    /// Oldest version of the protocol that it understands.
    pub oldest_protocol: u32,
    /// Newest version of the protocol that it understands.
    pub newest_protocol: u32,
}

/// Version of the WSK provider NPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WskVersion {
    /// Major version.
    pub major: u8,
    /// Minor version.
    pub minor: u8,
}

/// How the driver stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// How it stands to the WSK subsystem.
    pub provider: ProviderState,
    /// What the capture of the provider NPI ended with; `STATUS_PENDING` while it goes on.
    pub capture_status: NtStatus,
    /// The provider's version, once captured.
    pub wsk_version: Option<WskVersion>,
    /// Endpoints of all handles.
    pub endpoints: u32,
}

impl Provider {
    /// The driver behind `device`.
    #[must_use]
    pub fn new(device: Arc<dyn Device>) -> Self {
        Self { device }
    }

    /// Opens `\\.\SanWsk`.
    ///
    /// # Errors
    ///
    /// The driver is not loaded (`STATUS_OBJECT_NAME_NOT_FOUND`), the caller lacks rights (`STATUS_ACCESS_DENIED`), or this is not
    /// Windows (`STATUS_NOT_SUPPORTED`).
    pub fn open() -> Result<Self, Error> {
        #[cfg(windows)]
        return Ok(Self::new(Arc::new(crate::windows::WindowsDevice::open()?)));
        #[cfg(not(windows))]
        Err(Error::new(Operation::Open, NtStatus::NOT_SUPPORTED))
    }

    /// The device itself, for requests that the types here do not make.
    #[must_use]
    pub fn device(&self) -> &Arc<dyn Device> {
        &self.device
    }

    /// Which driver this is.
    ///
    /// # Errors
    ///
    /// The driver refuses.
    pub fn version(&self) -> Result<Version, Error> {
        let VersionReply { oldest_protocol, newest_protocol, driver } =
            self.call(ControlCode::QueryVersion, &()).wait()?;
        Ok(Version { driver, oldest_protocol, newest_protocol })
    }

    /// How the driver stands.
    ///
    /// # Errors
    ///
    /// The driver refuses, or answers with a state that has no meaning (`STATUS_REVISION_MISMATCH`).
    pub fn status(&self) -> Result<Status, Error> {
        let code = ControlCode::QueryStatus;
        let reply: StatusReply = self.call(code, &()).wait()?;
        let [_, _, major, minor] = reply.wsk_version.to_be_bytes();
        Ok(Status {
            provider: ProviderState::from_number(reply.provider)
                .ok_or(Error::new(Operation::Request(code), NtStatus::REVISION_MISMATCH))?,
            capture_status: NtStatus(reply.capture_status),
            wsk_version: (reply.wsk_version != 0).then_some(WskVersion { major, minor }),
            endpoints: reply.endpoints,
        })
    }

    /// The limits and settings in force, as the registry has them.
    ///
    /// # Errors
    ///
    /// The driver refuses.
    pub fn limits(&self) -> Result<DeviceLimits, Error> {
        self.call(ControlCode::QueryLimits, &()).wait()
    }

    /// What the driver has done and holds, of all handles: every number of what was completed before is in it.
    ///
    /// # Errors
    ///
    /// The driver refuses.
    pub fn statistics(&self) -> Result<DeviceStatistics, Error> {
        self.call(ControlCode::QueryDeviceStatistics, &()).wait()
    }

    /// Makes an event object for [`SanEndpoint::event_select`](crate::SanEndpoint::event_select).
    ///
    /// # Errors
    ///
    /// As [`Device::create_event`].
    pub fn create_event(&self) -> Result<Arc<dyn Event>, Error> {
        self.device.create_event()
    }

    /// Issues a request that is answered with a `Reply`, or with nothing where that is `()`.
    pub(crate) fn call<Reply>(
        &self,
        code: ControlCode,
        input: &(impl IntoBytes + Immutable),
    ) -> Pending<Result<Reply, Error>>
    where
        Reply: FromBytes + IntoBytes + KnownLayout + Immutable,
    {
        self.call_then(code, input, |reply| reply)
    }

    /// The same, and makes something of the answer.
    pub(crate) fn call_then<Reply, T>(
        &self,
        code: ControlCode,
        input: &(impl IntoBytes + Immutable),
        then: impl FnOnce(Result<Reply, Error>) -> Result<T, Error> + Send + Sync + 'static,
    ) -> Pending<Result<T, Error>>
    where
        Reply: FromBytes + IntoBytes + KnownLayout + Immutable,
    {
        let request = DeviceRequest::new(code, input.as_bytes(), vec![0; size_of::<Reply>()]);
        Pending::start(&self.device, request, move |completed| then(reply(code, &completed)))
    }
}

/// The answer of a request that has succeeded, as long as it should be.
fn reply<Reply: FromBytes>(code: ControlCode, completed: &Completed) -> Result<Reply, Error> {
    let failed = |status| Error::new(Operation::Request(code), status);
    if !completed.status.is_success() {
        return Err(failed(completed.status));
    }
    let written = completed.buffer.get(..completed.information);
    written.and_then(|written| Reply::read_from_bytes(written).ok()).ok_or(failed(NtStatus::INFO_LENGTH_MISMATCH))
}

impl fmt::Debug for Provider {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Provider").finish_non_exhaustive()
    }
}

impl fmt::Display for WskVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}
