"""Commands that are no steps: plan, calibrate, explain, trace, sql, demo, dendrogram, upgrade and others.

What they share: `opening.py` (session, tables and lease), `text_table.py` (what they print); `demo_lake.py` makes the
files of the demo.
"""
