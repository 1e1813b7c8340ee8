"""The API process: what is answered beside predictions, who may ask for it, and what OpenAPI tells of all of it."""
