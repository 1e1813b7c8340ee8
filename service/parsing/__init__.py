"""What the bytes of a prediction request say: its head, and the encoded images in its body."""
