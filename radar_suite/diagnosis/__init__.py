"""From failure to signature, cause, intervention and proof: a taxonomy, a diagnosis, and its blind evaluation."""

from radar_lib.ranges import Range

RERUNS = Range(5, 1000)  # of a healthy band
