"""Step 5: thumbnails of the pairs in doubt are compared, and likely copies become groups with a keeper."""
