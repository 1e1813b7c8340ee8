"""What `resnet-serve` can be asked to do."""
