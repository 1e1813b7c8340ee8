"""A released model on disk."""
