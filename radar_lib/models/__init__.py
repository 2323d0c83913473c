"""The seven backbones, the RADAR router on top of them, and the stand-in checkpoints."""
