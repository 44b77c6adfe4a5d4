"""The steps, one package each, in this order: `inventory`, `extract`, `index`, `match`, `cluster`, `report`.

`embed`, which makes the vectors anew, is no step of a run; `reading` is what extract and embed share; the modules
beside the packages are shared by several steps.

A step is three layers: `run` reads and writes tables, functions turn DataFrames into DataFrames, and generators over
Arrow batches do the work on executors. Between steps nothing is passed but tables.
"""
