"""What a notebook calls: experiments by name, their record, tables, claims, plots, and the workspace they write to."""
