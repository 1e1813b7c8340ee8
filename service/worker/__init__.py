"""The worker process: batches to results."""
