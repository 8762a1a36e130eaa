"""Along an axis: bottlenecks, crossings, bounds that nothing can break, and the highest load that is still good."""
