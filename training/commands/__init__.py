"""What `resnet-train` can be asked to do."""
