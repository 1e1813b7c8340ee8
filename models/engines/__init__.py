"""What runs a released model."""
