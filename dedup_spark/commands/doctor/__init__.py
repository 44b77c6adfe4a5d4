"""`dedup-spark doctor`: what is installed, what is missing, what cannot be done without it, and the command for it."""
