"""`embed`: embeddings of another model from the bytes of images that are in `features`."""
