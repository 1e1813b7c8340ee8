"""Images to slots, batches and results: admission, decoding, the queue, and how long all of it takes."""
