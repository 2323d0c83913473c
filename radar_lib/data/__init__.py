"""Posts in, posts out: the data contract, importers, checks and audits."""
