"""The version of the results: of all code that decides, from the features of the images to the clusters."""

RESULTS_VERSION = 8
"""Raise it when the same inputs and settings could give other pairs, clusters or keepers.

It is part of every fingerprint, so that a new version repeats the steps that decide and compares all images again, and
part of `clusters.versions`. `tests/test_results.py` fails when code that decides has changed, until it is recorded.
"""
