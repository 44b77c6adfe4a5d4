"""Step 2: it reads each image once into `features`: hashes, facts, thumbnail, embedding."""
