function Get-Answer

Write-Output 'done'
