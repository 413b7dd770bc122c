function Get-Answer {
    if ($true) {
        return 42
}
