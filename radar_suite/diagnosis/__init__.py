"""From failure to signature, cause, intervention and proof: a taxonomy, a diagnosis, and its blind evaluation."""
