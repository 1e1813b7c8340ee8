"""The first process: what it waits for, and which models the others are told to serve."""
