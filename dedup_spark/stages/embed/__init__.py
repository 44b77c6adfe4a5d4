"""The command `embed`: embeddings of another model for the images that are in `features`."""
