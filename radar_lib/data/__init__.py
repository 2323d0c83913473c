"""Posts in: the data contract, shards with their digests, frames, and the table that training reads."""
