"""The other processes, by kind: how each is started, watched, replaced and ended."""
