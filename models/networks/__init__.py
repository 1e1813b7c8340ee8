"""The networks, as the papers have them."""
