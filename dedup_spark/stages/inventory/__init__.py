"""Step 1: it lists the lake into `images`."""
