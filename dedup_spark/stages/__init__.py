"""The steps, one package each; the modules beside them are shared by several steps.

A step is three layers: `run` reads and writes tables, functions turn DataFrames into DataFrames, and generators over
Arrow batches do the work on executors. Between steps nothing is passed but tables.
"""
