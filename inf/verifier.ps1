<#
.SYNOPSIS
Turns Driver Verifier on or off for sanwsk, or shows what it does.

.DESCRIPTION
Driver Verifier watches the driver and stops the machine (a bug check with a dump) where it breaks a rule: for test machines. On
and off take effect after a restart. On sets the standard checks, and DDI compliance, IRP logging, randomized low resources and
force pending of I/O where -Thorough asks for them; KMDF's own verifier is turned on beside it.

.PARAMETER On
Turns it on.

.PARAMETER Off
Turns it off for every driver, and KMDF's for this one.

.PARAMETER Thorough
With On: also what makes the driver slow, or allocations fail.

.EXAMPLE
.\verifier.ps1 -On -Thorough

.EXAMPLE
.\verifier.ps1
#>
#Requires -RunAsAdministrator
[CmdletBinding(SupportsShouldProcess, DefaultParameterSetName = 'Show')]
param(
    [Parameter(Mandatory, ParameterSetName = 'On')] [switch] $On,
    [Parameter(Mandatory, ParameterSetName = 'Off')] [switch] $Off,
    [Parameter(ParameterSetName = 'On')] [switch] $Thorough
)
Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

$wdf = 'HKLM:\SYSTEM\CurrentControlSet\Services\sanwsk\Parameters\Wdf'
if ($On) {
    # Special pool, forced IRQL checking, pool tracking, I/O verification, deadlock detection, DMA checking, security checks, miscellaneous
    # checks, DDI compliance checking: 0x209BB. IRP logging 0x400, randomized low resources 0x4, force pending 0x200.
    $flags = if ($Thorough) { '0x20FBF' } else { '0x209BB' }
    if ($PSCmdlet.ShouldProcess('sanwsk.sys', "verifier /flags $flags")) {
        & verifier.exe /flags $flags /driver sanwsk.sys
        # 2: done, and effective after a restart.
        if ($LASTEXITCODE -notin 0, 2) { throw "verifier failed ($LASTEXITCODE)" }
        New-Item -Path $wdf -Force | Out-Null
        Set-ItemProperty -Path $wdf -Name VerifierOn -Value 1 -Type DWord
        Set-ItemProperty -Path $wdf -Name VerboseOn -Value 1 -Type DWord
        Write-Output 'Restart the machine. "verifier /reset" in safe mode turns it off if it does not start any more.'
    }
}
elseif ($Off) {
    if ($PSCmdlet.ShouldProcess('Driver Verifier', 'Reset')) {
        & verifier.exe /reset
        if ($LASTEXITCODE -notin 0, 2) { throw "verifier failed ($LASTEXITCODE)" }
        if (Test-Path $wdf) { Remove-ItemProperty -Path $wdf -Name VerifierOn, VerboseOn -ErrorAction SilentlyContinue }
        Write-Output 'Restart the machine.'
    }
}
else {
    & verifier.exe /querysettings
    & verifier.exe /query
}
