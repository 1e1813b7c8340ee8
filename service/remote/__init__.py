"""Model repositories that lie elsewhere: in object stores, on the Hugging Face hub, on web servers."""
