# From a fresh clone to a proven PyTorch: makes provision an environment of its own (once), runs `provision` with the
# arguments given here and hands back its exit code. For Windows PowerShell 5.1 and PowerShell 7. Needs Python 3.11 or
# later, or uv. Never asks, needs no administrator.
#
#   powershell -ExecutionPolicy Bypass -File scripts\bootstrap.ps1 plan --json
#
#   $env:PROVISION_PYTHON   the Python to build on, instead of the first usable one
#
# Everything stands in one pair of braces: a file that was cut off does not parse, and runs nothing.
# The twin for Linux and macOS is bootstrap.sh; what is explained there is not explained again.
$arguments = $args
& {
    Set-StrictMode -Version 2
    $ErrorActionPreference = 'Stop'
    Set-Variable -Name PSNativeCommandUseErrorActionPreference -Value $false

    function Write-Talk([string] $Text) {
        [Console]::Error.WriteLine($Text)
    }

    # The three lines of an error, and exit 5 (an install step failed).
    function Exit-Setup([string] $Text, [string] $Cause, [string] $Fix) {
        Write-Talk "error: $Text"
        if ($Cause) {
            Write-Talk "cause: $Cause"
        }
        Write-Talk "fix:   $Fix"
        exit 5
    }

    # Runs a command with its output in a file; returns its exit code (-1 where it could not be started).
    function Invoke-Quietly([string] $Command, [string[]] $Words, [string] $Log) {
        $quoted = @($Words | ForEach-Object { '"' + $_ + '"' }) -join ' '
        try {
            $process = Start-Process -FilePath $Command -ArgumentList $quoted -NoNewWindow -Wait -PassThru `
                -RedirectStandardOutput "$Log.out" -RedirectStandardError $Log
            return $process.ExitCode
        } catch {
            Set-Content -LiteralPath $Log -Value $_.Exception.Message
            return -1
        }
    }

    # The interpreter behind a command, if it can make an environment.
    function Get-UsablePython([string] $Command, [string[]] $Before) {
        $code = 'import sys, venv, ensurepip; print(sys.executable if sys.version_info >= (3, 11) else 1)'
        $log = [IO.Path]::GetTempFileName()
        try {
            if ((Invoke-Quietly $Command ($Before + @('-I', '-c', $code)) $log) -ne 0) {
                return $null
            }
            $answer = (Get-Content -LiteralPath "$log.out" | Select-Object -First 1)
            if ($answer -eq '1') {
                return $null
            }
            return $answer
        } finally {
            Remove-Item -LiteralPath $log, "$log.out" -Force -ErrorAction SilentlyContinue
        }
    }

    # The Python to build on; nothing where only uv can help.
    function Find-Python {
        if ($env:PROVISION_PYTHON) {
            $found = Get-UsablePython $env:PROVISION_PYTHON @()
            if (-not $found) {
                Exit-Setup 'PROVISION_PYTHON is not Python 3.11 or later with venv' $env:PROVISION_PYTHON 'name another one, or unset it'
            }
            return $found
        }
        foreach ($candidate in @('py -3', 'python', 'python3')) {
            $command, $before = $candidate -split ' '
            if (Get-Command $command -CommandType Application -ErrorAction SilentlyContinue) {
                $found = Get-UsablePython $command @($before | Where-Object { $_ })
                if ($found) {
                    return $found
                }
            }
        }
        if (-not (Get-Command uv -CommandType Application -ErrorAction SilentlyContinue)) {
            Exit-Setup 'provision needs Python 3.11 or later with venv, or uv; none was found' '' 'install one of them and run this again'
        }
        return $null
    }

    # Runs one step of the set-up; where it fails, shows the end of its output and stops.
    function Invoke-Step([string] $Command, [string[]] $Words, [string] $Made, [string] $Fix) {
        $log = Join-Path $Made 'log'
        if ((Invoke-Quietly $Command $Words $log) -eq 0) {
            return
        }
        $lines = @(Get-Content -LiteralPath $log | Where-Object { $_.Trim() } | Select-Object -Last 4)
        Remove-Item -LiteralPath $Made -Recurse -Force -ErrorAction SilentlyContinue
        $failed = "$Command $($Words -join ' ')"
        Exit-Setup "provision's own environment could not be made: $failed failed" ($lines -join [Environment]::NewLine) $Fix
    }

    function Get-Interpreter([string] $Environment) {
        if ($env:OS -eq 'Windows_NT') {
            return Join-Path $Environment 'Scripts\python.exe'
        }
        return Join-Path $Environment 'bin/python'
    }

    # Fills the new folder, on a Python or, without one, with uv. pip's variables are changed for pip alone.
    function Install-Environment([string] $Made, [string] $Root, [string] $Base) {
        $python = Get-Interpreter $Made
        $index = 'see that the package index answers'
        if (-not $Base) {
            Invoke-Step 'uv' @('venv', '--allow-existing', '--python', '>=3.11', $Made) $Made 'install Python 3.11 or later'
            Invoke-Step 'uv' @('pip', 'install', '--python', $python, '--editable', $Root) $Made $index
            return
        }
        Invoke-Step $Base @('-I', '-m', 'venv', $Made) $Made 'name another Python in PROVISION_PYTHON'
        $index = "$index; pip's settings, PIP_INDEX_URL, PIP_FIND_LINKS and HTTPS_PROXY are honoured"
        $names = @('PIP_TARGET', 'PIP_PREFIX', 'PIP_ROOT', 'PIP_USER')
        $before = @{}
        foreach ($name in $names) {
            $before[$name] = [Environment]::GetEnvironmentVariable($name)
            [Environment]::SetEnvironmentVariable($name, $null)
        }
        [Environment]::SetEnvironmentVariable('PIP_USER', '0')
        try {
            Invoke-Step $python @('-I', '-m', 'pip', 'install', '--disable-pip-version-check', '--editable', $Root) $Made $index
        } finally {
            foreach ($name in $names) {
                [Environment]::SetEnvironmentVariable($name, $before[$name])
            }
        }
    }

    # The interpreter of the finished environment that a folder names, or nothing.
    function Get-Finished([string] $Folder, [string] $Key) {
        $pointer = Join-Path $Folder $Key
        if (-not (Test-Path -LiteralPath $pointer -PathType Leaf)) {
            return $null
        }
        $python = Get-Interpreter (Join-Path $Folder (Get-Content -LiteralPath $pointer -TotalCount 1))
        if (-not (Test-Path -LiteralPath $python -PathType Leaf)) {
            return $null
        }
        & $python -I -c 'import sys, importlib.util as u; sys.exit(not (u.find_spec(''click'') and u.find_spec(''provision'')))'
        if ($LASTEXITCODE -ne 0) {
            return $null
        }
        return $python
    }

    # What the environment depends on, as a name: pyproject.toml, where the clone is, the Python asked for.
    function Get-Key([string] $Root) {
        $project = [IO.File]::ReadAllText((Join-Path $Root 'pyproject.toml'))
        $bytes = [Text.Encoding]::UTF8.GetBytes("$project`n$Root`n$env:PROVISION_PYTHON")
        $hash = [Security.Cryptography.SHA256]::Create().ComputeHash($bytes)
        return [BitConverter]::ToString($hash, 0, 8).Replace('-', '').ToLowerInvariant()
    }

    # Removes environments that no file names any more since a day or longer, and what killed set-ups left.
    function Clear-Old([string] $Folder) {
        $named = @(Get-ChildItem -LiteralPath $Folder -File | ForEach-Object { Get-Content -LiteralPath $_.FullName -TotalCount 1 })
        foreach ($old in @(Get-ChildItem -LiteralPath $Folder -Directory -Filter 'env.*')) {
            if (($named -notcontains $old.Name) -and ($old.LastWriteTime -lt (Get-Date).AddDays(-1))) {
                Remove-Item -LiteralPath $old.FullName -Recurse -Force -ErrorAction SilentlyContinue
            }
        }
    }

    # Where environments go: into the clone, or to the user's data where that cannot be written to.
    function Get-FolderList([string] $Root) {
        $data = [Environment]::GetFolderPath('LocalApplicationData')
        return @((Join-Path $Root '.tools/provision'), (Join-Path $data 'torch-provision/provision'))
    }

    function Add-Folder([string[]] $Folders) {
        foreach ($folder in $Folders) {
            $made = Join-Path $folder ('env.' + [Guid]::NewGuid().ToString('N').Substring(0, 12))
            try {
                [void](New-Item -ItemType Directory -Force -Path $made)
                return $made
            } catch {
                continue
            }
        }
        Exit-Setup "none of these folders can be written to: $($Folders -join ', ')" '' 'make one of them writable'
    }

    function Get-Environment([string] $Root) {
        $key = Get-Key $Root
        $folders = Get-FolderList $Root
        foreach ($folder in $folders) {
            $python = Get-Finished $folder $key
            if ($python) {
                return $python
            }
        }
        $base = Find-Python
        $made = Add-Folder $folders
        $folder = Split-Path -Parent $made
        Write-Talk "Making provision's own environment in $folder (once) ..."
        Clear-Old $folder
        Install-Environment $made $Root $base
        Remove-Item -Path (Join-Path $made 'log*') -Force -ErrorAction SilentlyContinue
        [IO.File]::WriteAllText("$made.name", (Split-Path -Leaf $made))
        Move-Item -LiteralPath "$made.name" -Destination (Join-Path $folder $key) -Force
        return Get-Interpreter $made
    }

    function Invoke-Main([object[]] $Words) {
        $root = Split-Path -Parent $PSScriptRoot
        $python = Get-Environment $root
        & $python -I -m provision @Words
        exit $LASTEXITCODE
    }

    Invoke-Main $arguments
}
