"""How pixels become vectors: one small file a runtime, one interface (`base.py`), one registry (`registry.py`)."""
