"""Stand-ins for the paper's seven checkpoints: committed folders, and the recipe that makes them."""
