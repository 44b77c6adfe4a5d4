"""From pairs that may be copies to groups and keepers. How two images are compared is in `kernels/comparing/`.

`components.py` finds what is connected, `pieces.py` sorts the pairs of a large component. `grouping.py` cuts a
component into groups by probabilities (with `leaders.py`), `linkage.py` by distances. `keeping.py` says which members
stay, `consensus.py` what most members show, `trees.py` answers questions about the merges.
"""
