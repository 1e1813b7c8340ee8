"""From HTTP to classes: `python -m service`, `resnet-serve`."""
