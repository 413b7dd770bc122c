$code = 1
if ($code != 0) {
    Write-Output 'failed'
}
