"""The engines: all pairs of vectors or hashes within a threshold, and the estimate of what they miss."""
