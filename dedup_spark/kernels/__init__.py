"""The algorithms: arrays or bytes in, arrays out. They know no Spark, no tables and no file system.

Where is what, and where does something new go:

- `arrays.py`: names of array types, and `expect`, with which public functions check shapes and dtypes.
- `vectors.py`: unit vectors: coarse cells, FAISS shards, exact cosines.
- `decoding/`: bytes to upright RGB pixels, or the reason why not. A new decoder is a `Decoder` in `formats.py` with the
  first bytes of its format, an opener in `openers.py`, and what its headers and endings say in `headers.py` and
  `endings.py`.
- `features/`: what is computed of decoded pixels: `hashing.py` (exact and perceptual hashes), `quality.py` (sharpness,
  contrast, entropy), `signature.py` (everything that a row of `features` holds). A new feature is a function in one of
  the first two, or a file of its own, a field of `Signature` and a column of `features` in store/schema.py.
- `joins/`: all pairs of vectors or hashes within a threshold. An engine proposes candidates and `base.py` scores them:
  `exact.py` (matrix products), `sketch.py` (Hamming distance of sign sketches, which `sketches.py` makes and sizes),
  `routed.py` (sketches in near cells), `faiss_ivf.py` (FAISS's own search); `hashes.py` compares pHashes; `recall.py`
  estimates what an engine missed. A new engine is a file here that yields candidates, its name in
  `vocabulary.Engine`, a branch of `propose` in stages/match/task.py and what it costs in stages/match/engine_choice.py.
- `comparing/`: are two images copies, and what is one to the other? `weighing.py` (`weigh`, which looks at thumbnails),
  `probability.py` (before and after that), `relations.py`; the package's docstring names the others.
- `clusters/`: from pairs to groups and keepers: `components.py`, `grouping.py` and `linkage.py` (components, cut into
  groups), `keeping.py` (which member stays).
- `edits.py`: edited copies of a picture, to measure what is found.
"""
