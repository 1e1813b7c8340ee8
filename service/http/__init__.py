"""The API process: bytes to requests, responses to bytes."""
