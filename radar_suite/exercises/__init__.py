"""The notebooks' exercises: the engine hands one out, `bank.notebook_05` holds the wording of notebook 05,
`bank.predictions` that of what is asked before a cell is run."""
