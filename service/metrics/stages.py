"""The stages of a request."""

STAGES = ("read", "decode", "queue", "inference", "respond")
"""In their order, as answers, the Server-Timing header and the metrics name them."""
