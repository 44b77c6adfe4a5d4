"""How pixels become vectors: one interface (`base.py`), one registry (`registry.py`), one small file per runtime."""
