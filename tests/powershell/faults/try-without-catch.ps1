try {
    Get-Item 'C:\nowhere'
}
Write-Output 'done'
