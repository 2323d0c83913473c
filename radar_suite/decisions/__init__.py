"""From a router to decisions that hold: bundles, posts read whole or not at all, a log that can be replayed."""
