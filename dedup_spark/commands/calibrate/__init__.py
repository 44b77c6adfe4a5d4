"""`calibrate`: settings fitted to a lake by edits of its own images whose truth is known."""
