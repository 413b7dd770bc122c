python --version && Write-Output 'found'
