"""Step 4: pairs of images that may be copies, by hashes and by embeddings, with the recall audit."""
