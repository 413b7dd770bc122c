Write-Output "the answer
$answer = 42
