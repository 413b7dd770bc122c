function Get-Sum {
    param([int] $First [int] $Second)
    $First + $Second
}
