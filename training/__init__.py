"""From data to artifact: `python -m training`, `resnet-train`."""
