"""`python -m training` is `resnet-train`."""

from training.cli import main

if __name__ == "__main__":
    main()
