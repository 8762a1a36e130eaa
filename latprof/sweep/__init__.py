"""Many runs of one configuration: along speed-ups of layers, rates or concurrencies, and in search of the highest load that meets a goodput."""
