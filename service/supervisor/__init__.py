"""The first process: starts, watches, replaces and ends the others."""
