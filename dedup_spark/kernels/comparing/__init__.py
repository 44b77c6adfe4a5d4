"""How likely two images are copies, and what one of them is to the other. Begin with `weighing.weigh`.

Scores give the prior (`probability.py`). In doubt, two thumbnails are compared: `query_images.py` says which is laid on
which, `verification.py` and `geometry.py` align keypoints (`keypoints.py`), `layout.py` compares them as they lie,
`laying.py` lays one on the other, `content.py`, `colours.py` and `bars.py` say what differs. `relations.py` and
`descent.py` say which of two copies was made from the other. Which groups follow is decided in `kernels/clusters/`.
"""
