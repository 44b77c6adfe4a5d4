"""Step 1: the lake is listed into `images`."""
