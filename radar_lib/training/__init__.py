"""Training: a readable loop, a content-addressed cache of runs, expert inference, and the scores that runs leave."""
