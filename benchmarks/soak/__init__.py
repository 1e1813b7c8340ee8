"""Long load, to see what grows."""
