"""From a trained network to a released model."""
