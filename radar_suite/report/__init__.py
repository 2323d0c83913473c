"""What a notebook calls: experiments by name, tables, plots, exercises, and the workspace they are written to."""
