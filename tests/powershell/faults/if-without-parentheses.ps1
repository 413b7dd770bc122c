if $env:OS -eq 'Windows_NT' {
    Write-Output 'Windows'
}
