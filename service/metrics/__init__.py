"""What every process counts."""
