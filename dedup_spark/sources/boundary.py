"""Where the addresses of a manifest may lead.

Whoever writes a row of a manifest may name any object that the job's role can read, and learn from what becomes of it:
its size, its hash, whether it is an image. So a row counts only below the folder that the manifest lies in, in the
bucket that an S3 Inventory is of, or below `inventory.allowed_prefixes`.
"""

from __future__ import annotations

from collections.abc import Sequence

from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.sources import addresses


def require_inside(uri: str, home: str, allowed: Sequence[str]) -> None:
    """Raise ImageRejected (`outside_lake`) unless an address lies below `home` or one of the prefixes `allowed`.

    Args:
        uri: Canonical. A local one is followed again, as a folder above it may have become a link since it was listed.
        home: A canonical folder or bucket, without a last slash.
        allowed: As a person writes them; relative ones count from `home`. One without a last slash is a whole name.
    """
    found = uri if addresses.is_remote(uri) else addresses.canonical(uri)
    if not any(found == place or found.startswith(f"{place}/") for place in (home, *_places(home, allowed))):
        raise ImageRejected(
            "outside_lake", f"not below {home}: where such rows are right, name the place in inventory.allowed_prefixes"
        )


def _places(home: str, allowed: Sequence[str]) -> list[str]:
    return [addresses.canonical(prefix, home).rstrip("/") for prefix in allowed]
