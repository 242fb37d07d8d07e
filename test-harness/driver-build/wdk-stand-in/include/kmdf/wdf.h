/* KMDF 1.31 as the published documentation describes it ("Wdf* headers" on learn.microsoft.com), for building without a
 * WDK: handles, structures, callbacks, and the types and table indices of the framework's functions. */
#pragma once

#if KMDF_VERSION_MAJOR != 1 || KMDF_VERSION_MINOR != 31
#error "These headers are those of KMDF 1.31"
#endif

#include "wdftypes.h"
#include "wdfcallbacks.h"
#include "wdfstructures.h"
#include "wdffuncenum.h"
#include "wdffunctions.h"

/* The loader of the framework fills these in while it binds the driver. The name of the table carries the version, so that
 * a driver cannot be linked with the entry code of another one. */
#define WdfFunctions WdfFunctions_01031
extern const WDFFUNC *WdfFunctions;
extern WDFFUNC WdfDriverMiniportUnloadOverride;
extern PWDF_DRIVER_GLOBALS WdfDriverGlobals;
extern ULONG WdfFunctionCount;
extern ULONG WdfStructureCount;
extern BOOLEAN WdfClientVersionHigherThanFramework;

/* The lowest minor version that the driver agrees to run on: the one it is built for. */
__declspec(selectany) ULONG WdfMinimumVersionRequired = KMDF_VERSION_MINOR;
