"""The notebooks' exercises: the engine hands one out, `bank.notebook_05` holds the wording of notebook 05."""
