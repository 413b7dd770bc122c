function Get-Answer {
    return 42
}
}
