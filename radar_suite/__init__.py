"""What reproduces the RADAR paper with `radar_lib`, and goes beyond it."""
