function Get-Text {
    $text = @"
some text
    "@
    return $text
}
