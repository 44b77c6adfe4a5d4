"""The benchmark of originals: its order is the one that Spark evaluates, and it finds the original among its copies."""

from __future__ import annotations
