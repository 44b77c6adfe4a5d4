"""The version of what is decided: of everything between what was read of the images and the clusters made of it."""

RESULTS_VERSION = 2
"""Raise it when the same inputs and settings could give other pairs, clusters or keepers.

Part of every fingerprint, so that the steps that decide are done again, all images are compared again, and of
`clusters.versions`. `tests/test_results.py` notices when code that decides has changed, and asks.
"""
