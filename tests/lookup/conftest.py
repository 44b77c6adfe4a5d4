"""One finished run over a few photos, and a `Lookup` of it, for tests that only read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import lookups
import pytest

from dedup_spark.lookup.lookup import Lookup, Options

COFFEE, CAT, ROCKET = "file:///lake/coffee.jpg", "file:///lake/cat.jpg", "file:///lake/rocket.jpg"


def images_of_lake() -> dict[str, bytes]:
    """By uri; the second coffee has the bytes of the first, the cat's PNG its pixels."""
    cat = lookups.jpeg(lookups.photo("chelsea.png"))
    return {
        COFFEE: lookups.jpeg(lookups.photo("coffee.png")),
        "file:///lake/coffee again.jpg": lookups.jpeg(lookups.photo("coffee.png")),
        CAT: cat,
        "file:///lake/cat.png": lookups.png(lookups.opened(cat)),
        ROCKET: lookups.jpeg(lookups.photo("rocket.jpg")),
        "file:///lake/bricks.jpg": lookups.jpeg(lookups.photo("brick.png")),
    }


@pytest.fixture(scope="session")
def looked_up_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("looked up") / "tables"
    lookups.finish_run(root, images_of_lake())
    return root


def options(folder: Path, **more: object) -> Options:
    """Everything that a look-up writes is below `folder`; it looks for no new run by itself."""
    return Options(str(folder / "cache"), str(folder / "state"), n_decoders=1, **({"reload_seconds": 0.0} | more))  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def opened(looked_up_tables: Path) -> Iterator[Lookup]:
    """Read only."""
    with Lookup.open(looked_up_tables, options(looked_up_tables.parent)) as lookup:
        yield lookup
