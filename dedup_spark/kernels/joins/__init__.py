"""The engines, which find all pairs of vectors within a threshold; near hashes; and the estimate of what is missed."""
