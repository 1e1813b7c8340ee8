"""How fast and how fair the server is, beside others that do the same job: `python -m benchmarks.serving`."""
