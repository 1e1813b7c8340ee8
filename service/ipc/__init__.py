"""What crosses from process to process."""
