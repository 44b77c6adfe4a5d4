"""Step 5: pairs in doubt are weighed, and likely copies become groups with a keeper."""
