<#
.SYNOPSIS
Stops sanwsk and removes it.

.DESCRIPTION
Stops the service, deletes the driver package (pnputil /delete-driver ... /uninstall), which deletes the service with its
parameters, and removes the firewall rule that install.ps1 has made. While a program has the device open, Windows does not
unload the driver: the stop stays pending until the last handle is closed. The script then names who may have it open and ends,
unless -Wait says how long to wait.

.PARAMETER Wait
Seconds to wait for the last handle to be closed.

.PARAMETER KeepParameters
Writes the parameters to this file before they go (reg import brings them back).

.EXAMPLE
.\uninstall.ps1 -Wait 60 -KeepParameters .\sanwsk-parameters.reg
#>
#Requires -RunAsAdministrator
[CmdletBinding(SupportsShouldProcess)]
param(
    [ValidateRange(0, 86400)] [int] $Wait = 0,
    [string] $KeepParameters
)
Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

$service = Get-Service -Name sanwsk -ErrorAction SilentlyContinue
if ($KeepParameters -and $service) {
    & reg.exe export 'HKLM\SYSTEM\CurrentControlSet\Services\sanwsk\Parameters' $KeepParameters /y
    if ($LASTEXITCODE -ne 0) { throw "reg export failed ($LASTEXITCODE)" }
}

if ($service -and $service.Status -ne 'Stopped' -and $PSCmdlet.ShouldProcess('sanwsk', 'Stop')) {
    & sc.exe stop sanwsk
    $until = (Get-Date).AddSeconds($Wait)
    while ((Get-Service -Name sanwsk).Status -ne 'Stopped') {
        if ((Get-Date) -ge $until) {
            throw 'The driver is still in use: close the programs that have \\.\SanWsk open ("sanctl status" shows their endpoints), then try again.'
        }
        Start-Sleep -Milliseconds 500
    }
}

# The store's own name of the package, oemN.inf. The output of pnputil is translated: the blocks are told by their original names.
$drivers = Get-WindowsDriver -Online | Where-Object { (Split-Path $_.OriginalFileName -Leaf) -eq 'sanwsk.inf' }
foreach ($driver in $drivers) {
    if ($PSCmdlet.ShouldProcess($driver.Driver, 'Delete the driver package')) {
        & pnputil.exe /delete-driver $driver.Driver /uninstall
        if ($LASTEXITCODE -notin 0, 3010) { throw "pnputil failed ($LASTEXITCODE)" }
    }
}

if ($PSCmdlet.ShouldProcess('Windows Firewall', 'Remove the rule sanwsk')) {
    Get-NetFirewallRule -Name sanwsk -ErrorAction SilentlyContinue | Remove-NetFirewallRule
}
