"""How images are found and their bytes fetched: one small file a kind of source, one interface (`base.py`)."""
