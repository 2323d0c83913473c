"""The notebooks' exercises: engine and bank."""
