"""From a router to decisions that hold: bundles, routing that fails closed, and a log that can be replayed."""
