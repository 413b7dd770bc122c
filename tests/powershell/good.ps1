# Legal in 5.1, and close to each of the faults.
function Get-Sum {
    param([int] $First, [int] $Second)
    return $First + $Second
}
function Get-Text([string] $Name) {
    $text = @"
hello $Name
"@
    return $text
}
$table = @{ Name = 'a'; Size = 3 }
$code = 1
if (($code -ne 0) -and -not ($table.Size -eq 4)) {
    Write-Output "failed: $($table.Name) and `"$(Get-Text 'b')`""
} elseif ($null -eq $env:PROVISION_HOME) {
    $code = Get-Sum -First 1 -Second 2
} else {
    & 'nvidia-smi' '--query-gpu=name,compute_cap' '--format=csv,noheader'
    if ($LASTEXITCODE -ne 0) {
        exit $LASTEXITCODE
    }
}
try {
    $found = @(Get-ChildItem -LiteralPath 'C:\' -Filter '*.txt' | Where-Object { $_.Length -gt 3 } | Select-Object -First 1)
} catch [System.IO.IOException] {
    $found = @()
} finally {
    Write-Output $found.Count
}
switch ($code) {
    1 { 'one' }
    default { 'many' }
}
foreach ($one in 1..3) {
    Write-Output ('{0:d2}' -f $one)
}
