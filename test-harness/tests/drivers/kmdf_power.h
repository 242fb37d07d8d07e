/* Structures of wdfdevice.h (KMDF 1.31, x64) about a device's power. */
#pragma once

struct _WDF_DEVICE_POWER_CAPABILITIES {
    ULONG Size;
    WDF_TRI_STATE DeviceD1, DeviceD2, WakeFromD0, WakeFromD1, WakeFromD2, WakeFromD3;
    DEVICE_POWER_STATE DeviceState[PowerSystemMaximum];
    DEVICE_POWER_STATE DeviceWake;
    SYSTEM_POWER_STATE SystemWake;
    ULONG D1Latency, D2Latency, D3Latency;
    DEVICE_POWER_STATE IdealDxStateForSx;
};
C_ASSERT(sizeof(struct _WDF_DEVICE_POWER_CAPABILITIES) == 80);

struct _WDF_DEVICE_POWER_POLICY_IDLE_SETTINGS {
    ULONG Size;
    int IdleCaps; /* WDF_POWER_POLICY_S0_IDLE_CAPABILITIES */
    DEVICE_POWER_STATE DxState;
    ULONG IdleTimeout;
    int UserControlOfIdleSettings; /* WDF_POWER_POLICY_S0_IDLE_USER_CONTROL */
    WDF_TRI_STATE Enabled;
    WDF_TRI_STATE PowerUpIdleDeviceOnSystemWake;
    int IdleTimeoutType;
    WDF_TRI_STATE ExcludeD3Cold;
};
C_ASSERT(sizeof(struct _WDF_DEVICE_POWER_POLICY_IDLE_SETTINGS) == 36);
enum { CANNOT_WAKE = 1, CAN_WAKE = 2, NO_USER_CONTROL = 1 };

struct _WDF_DEVICE_POWER_POLICY_WAKE_SETTINGS {
    ULONG Size;
    DEVICE_POWER_STATE DxState;
    int UserControlOfWakeSettings; /* WDF_POWER_POLICY_SX_WAKE_USER_CONTROL */
    WDF_TRI_STATE Enabled;
    BOOLEAN ArmForWakeIfChildrenAreArmedForWake;
    BOOLEAN IndicateChildWakeOnParentWake;
};
C_ASSERT(sizeof(struct _WDF_DEVICE_POWER_POLICY_WAKE_SETTINGS) == 20);

typedef NTSTATUS(NTAPI *PFN_POLICY)(WDFDEVICE Device);

struct _WDF_POWER_POLICY_EVENT_CALLBACKS {
    ULONG Size;
    PFN_POLICY EvtDeviceArmWakeFromS0, EvtDeviceDisarmWakeFromS0, EvtDeviceWakeFromS0Triggered;
    PFN_POLICY EvtDeviceArmWakeFromSx, EvtDeviceDisarmWakeFromSx, EvtDeviceWakeFromSxTriggered;
    PVOID EvtDeviceArmWakeFromSxWithReason;
};
C_ASSERT(sizeof(struct _WDF_POWER_POLICY_EVENT_CALLBACKS) == 64);

typedef NTSTATUS(NTAPI *PFN_POWER)(WDFDEVICE Device, int State);

struct _WDF_PNPPOWER_EVENT_CALLBACKS {
    ULONG Size;
    PFN_POWER EvtDeviceD0Entry, EvtDeviceD0EntryPostInterruptsEnabled, EvtDeviceD0Exit;
    PVOID Others[14];
};
C_ASSERT(sizeof(struct _WDF_PNPPOWER_EVENT_CALLBACKS) == 144);
