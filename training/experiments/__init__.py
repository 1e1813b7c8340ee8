"""Experiments that show why residual networks work, each a page under docs/experiments."""
