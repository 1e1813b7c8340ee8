"""Which models there are: found in a repository, chosen by operators, and named by requests."""
