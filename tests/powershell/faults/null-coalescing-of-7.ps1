$home = $env:PROVISION_HOME ?? 'C:\provision'
