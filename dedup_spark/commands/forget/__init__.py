"""`dedup-spark forget`: erases images from everything below the root of the tables; see `command.py`."""
