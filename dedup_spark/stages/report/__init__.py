"""Step 6: SQL views and HTML pages over the tables."""
