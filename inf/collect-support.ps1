<#
.SYNOPSIS
Collects what a bug report about sanwsk needs, in one zip file.

.DESCRIPTION
Versions of Windows and of the driver, the service with its parameters, the driver package, what sanctl says, the system's events
about the driver, the network's addresses and routes, Driver Verifier's settings, the names of the newest dumps, and with -Trace
the driver's own events for so many seconds. Addresses and names of this machine are in it: look through it before you send it.
No message that a program has sent is in it. A dump is copied only if -Dump asks for it: it holds the kernel's memory.

.PARAMETER Path
The zip file to make.

.PARAMETER Trace
Seconds to trace the driver; bring the fault about meanwhile.

.PARAMETER Dump
Copies the newest small dump (%SystemRoot%\Minidump), too.

.PARAMETER Sanctl
Where sanctl.exe is, if it is not in the path.

.EXAMPLE
.\collect-support.ps1 -Trace 30
#>
#Requires -RunAsAdministrator
[CmdletBinding()]
param(
    [string] $Path = (Join-Path (Get-Location) "sanwsk-support-$(Get-Date -Format yyyyMMdd-HHmmss).zip"),
    [ValidateRange(0, 3600)] [int] $Trace = 0,
    [switch] $Dump,
    [string] $Sanctl = 'sanctl.exe'
)
Set-StrictMode -Version Latest
# Each part is worth having without the others.
$ErrorActionPreference = 'Continue'

$provider = '{6104ab46-1938-5ec2-5ede-f1b8bb7e2001}'
$folder = Join-Path ([IO.Path]::GetTempPath()) "sanwsk-support-$PID"
New-Item -ItemType Directory -Path $folder -Force | Out-Null

function Save([string] $Name, [scriptblock] $What) {
    & $What *>&1 | Out-String -Width 300 | Set-Content -Path (Join-Path $folder $Name) -Encoding utf8
}

try {
    if ($Trace -gt 0) {
        $log = Join-Path $folder 'sanwsk.etl'
        & logman.exe create trace sanwsk-support -ets -o $log -p $provider 0xffffffff 5 -bs 64 -nb 16 256 -mode Circular -max 64
        Write-Output "Tracing for $Trace seconds: bring the fault about now."
        Start-Sleep -Seconds $Trace
        & logman.exe stop sanwsk-support -ets
    }
    Save 'windows.txt' { Get-ComputerInfo -Property Os*, Windows*, CsProcessors, CsTotalPhysicalMemory }
    Save 'service.txt' { sc.exe qc sanwsk; sc.exe query sanwsk; sc.exe sdshow sanwsk }
    Save 'parameters.txt' { reg.exe query 'HKLM\SYSTEM\CurrentControlSet\Services\sanwsk' /s }
    Save 'package.txt' {
        Get-WindowsDriver -Online | Where-Object { (Split-Path $_.OriginalFileName -Leaf) -eq 'sanwsk.inf' } | Format-List
    }
    Save 'image.txt' {
        $image = (Get-CimInstance Win32_SystemDriver -Filter "Name = 'sanwsk'").PathName -replace '^\\\?\?\\', '' -replace '^\\SystemRoot', $env:SystemRoot
        Get-Item $image | Select-Object FullName, Length, LastWriteTime, VersionInfo | Format-List
        Get-FileHash $image -Algorithm SHA256 | Format-List
        Get-AuthenticodeSignature $image | Format-List
    }
    Save 'sanctl.txt' { & $Sanctl status; & $Sanctl route list; & $Sanctl top --once }
    Save 'network.txt' { Get-NetIPAddress; Get-NetRoute; Get-NetTCPConnection; Get-NetFirewallRule -Name sanwsk }
    Save 'verifier.txt' { verifier.exe /querysettings; verifier.exe /query }
    Save 'bcdedit.txt' { bcdedit.exe /enum '{current}' }
    Save 'events.txt' {
        Get-WinEvent -FilterHashtable @{ LogName = 'System'; StartTime = (Get-Date).AddDays(-7) } |
            Where-Object { $_.Message -match 'sanwsk' -or $_.ProviderName -match 'BugCheck|WER-SystemErrorReporting' } |
            Format-List TimeCreated, ProviderName, Id, LevelDisplayName, Message
    }
    $dumps = Join-Path $env:SystemRoot 'Minidump'
    Save 'dumps.txt' { Get-ChildItem $dumps, (Join-Path $env:SystemRoot 'MEMORY.DMP') | Sort-Object LastWriteTime }
    if ($Dump) {
        Get-ChildItem $dumps -Filter *.dmp | Sort-Object LastWriteTime | Select-Object -Last 1 | Copy-Item -Destination $folder
    }
    Compress-Archive -Path (Join-Path $folder '*') -DestinationPath $Path -Force
    Write-Output $Path
}
finally {
    Remove-Item -Recurse -Force $folder
}
