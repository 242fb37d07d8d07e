<#
.SYNOPSIS
Installs sanwsk from this folder and starts it.

.DESCRIPTION
Adds the driver package to the driver store and installs it (pnputil /add-driver sanwsk.inf /install), which makes the service
sanwsk with its parameters, then starts the service. With -TestCertificate the certificate is first put among the machine's
trusted roots and publishers, as a test-signed package wants it; that machine has to be in test mode
(bcdedit /set testsigning on, and a restart).

.PARAMETER Package
The folder with sanwsk.inf, sanwsk.cat and sanwsk.sys; the script's own by default.

.PARAMETER TestCertificate
The certificate that the package is test-signed by. It is trusted for the whole machine: for test machines only.

.PARAMETER AllowUsers
Lets every interactive user open the device, not administrators alone.

.PARAMETER Firewall
Opens the native port for these remote addresses, as 10.77.0.0/16. Without it, nothing is opened.

.PARAMETER NoStart
Does not start the service.

.EXAMPLE
.\install.ps1 -TestCertificate .\sanwsk-test.cer -Firewall 10.77.0.0/16
#>
#Requires -RunAsAdministrator
[CmdletBinding(SupportsShouldProcess)]
param(
    [string] $Package = $PSScriptRoot,
    [string] $TestCertificate,
    [switch] $AllowUsers,
    [string[]] $Firewall,
    [switch] $NoStart
)
Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

$inf = Join-Path $Package 'sanwsk.inf'
foreach ($file in 'sanwsk.inf', 'sanwsk.cat', 'sanwsk.sys') {
    if (-not (Test-Path (Join-Path $Package $file))) {
        throw "$Package has no $file. A package that was assembled on Linux gets its catalog by Inf2Cat, on Windows."
    }
}

if ($TestCertificate -and $PSCmdlet.ShouldProcess('this machine', "Trust $TestCertificate")) {
    foreach ($store in 'Root', 'TrustedPublisher') {
        Import-Certificate -FilePath $TestCertificate -CertStoreLocation "Cert:\LocalMachine\$store" | Out-Null
    }
}

if ($PSCmdlet.ShouldProcess($inf, 'Install')) {
    & pnputil.exe /add-driver $inf /install
    # 3010 (ERROR_SUCCESS_REBOOT_REQUIRED): done, and effective after a restart.
    if ($LASTEXITCODE -notin 0, 3010) { throw "pnputil failed ($LASTEXITCODE)" }
}

$parameters = 'HKLM:\SYSTEM\CurrentControlSet\Services\sanwsk\Parameters'
if ($AllowUsers -and $PSCmdlet.ShouldProcess($parameters, 'AllowUsers = 1')) {
    Set-ItemProperty -Path $parameters -Name AllowUsers -Value 1 -Type DWord
}

if ($Firewall -and $PSCmdlet.ShouldProcess('Windows Firewall', "Allow $($Firewall -join ', ')")) {
    $port = (Get-ItemProperty -Path $parameters).NativePort
    New-NetFirewallRule -Name sanwsk -DisplayName 'sanwsk: SAN connections' -Direction Inbound -Action Allow `
        -Protocol TCP -LocalPort $port -RemoteAddress $Firewall | Out-Null
}

if (-not $NoStart -and $PSCmdlet.ShouldProcess('sanwsk', 'Start')) {
    & sc.exe start sanwsk
    if ($LASTEXITCODE -ne 0) { throw "sc.exe start failed ($LASTEXITCODE)" }
}
