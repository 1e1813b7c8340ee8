"""What operators set: by flags, variables and a file."""
