"""Studies beyond the paper's own experiments, run by `radar studies` on what a finished chain left."""
