"""The steps, a room each; beside the rooms what several steps share.

A step is three layers: `run` reads and writes tables, functions turn DataFrames into DataFrames, and generators over
Arrow batches do the work on executors. Between steps nothing is passed but tables.
"""
