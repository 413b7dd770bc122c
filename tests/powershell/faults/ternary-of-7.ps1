$name = $IsWindows ? 'python.exe' : 'python'
