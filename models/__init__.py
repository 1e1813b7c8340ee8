"""What a network is, and what a released model is and how it runs."""
