"""The API process: requests to batches, results to responses."""
