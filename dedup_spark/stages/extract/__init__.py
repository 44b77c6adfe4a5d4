"""Step 2: each image is read once into `features`: bytes, hashes, facts, thumbnail, embedding."""
