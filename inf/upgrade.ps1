<#
.SYNOPSIS
Replaces an installed sanwsk by the one in this folder.

.DESCRIPTION
Stops the driver, installs the new package over the old one, starts it again, and removes the old package from the driver store.
The parameters of the service stay as an administrator has set them; new ones get their defaults. While a program has the device
open the driver cannot be stopped: the script then changes nothing, unless -Wait says how long to wait.

.PARAMETER Package
The folder with the new package; the script's own by default.

.PARAMETER Wait
Seconds to wait for the last handle to be closed.

.EXAMPLE
.\upgrade.ps1 -Wait 60
#>
#Requires -RunAsAdministrator
[CmdletBinding(SupportsShouldProcess)]
param(
    [string] $Package = $PSScriptRoot,
    [ValidateRange(0, 86400)] [int] $Wait = 0
)
Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

$inf = Join-Path $Package 'sanwsk.inf'
if (-not (Test-Path $inf)) { throw "$Package has no sanwsk.inf" }
$service = Get-Service -Name sanwsk -ErrorAction SilentlyContinue
if (-not $service) { throw 'sanwsk is not installed: install.ps1 does that.' }
$was = $service.Status
$old = @(Get-WindowsDriver -Online | Where-Object { (Split-Path $_.OriginalFileName -Leaf) -eq 'sanwsk.inf' })

if ($was -ne 'Stopped' -and $PSCmdlet.ShouldProcess('sanwsk', 'Stop')) {
    & sc.exe stop sanwsk
    $until = (Get-Date).AddSeconds($Wait)
    while ((Get-Service -Name sanwsk).Status -ne 'Stopped') {
        if ((Get-Date) -ge $until) {
            throw 'The driver is still in use and goes with its last handle; nothing has been replaced.'
        }
        Start-Sleep -Milliseconds 500
    }
}

if ($PSCmdlet.ShouldProcess($inf, 'Install')) {
    & pnputil.exe /add-driver $inf /install
    if ($LASTEXITCODE -notin 0, 3010) { throw "pnputil failed ($LASTEXITCODE)" }
}

if ($was -ne 'Stopped' -and $PSCmdlet.ShouldProcess('sanwsk', 'Start')) {
    & sc.exe start sanwsk
    if ($LASTEXITCODE -ne 0) { throw "sc.exe start failed ($LASTEXITCODE)" }
}

$new = Get-WindowsDriver -Online | Where-Object { (Split-Path $_.OriginalFileName -Leaf) -eq 'sanwsk.inf' }
foreach ($driver in $old) {
    # What had the same version is the same entry of the store.
    $superseded = @($new | Where-Object { $_.Driver -ne $driver.Driver }).Count -gt 0
    if ($superseded -and $PSCmdlet.ShouldProcess($driver.Driver, 'Delete the old driver package')) {
        & pnputil.exe /delete-driver $driver.Driver
    }
}
