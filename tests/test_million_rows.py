"""A manifest of a million rows through the real inventory, with a driver of 512 MB: nothing of it is collected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from deltalake import DeltaTable
from processes import ROOT, Done, in_a_shell
from table_contents import rows

pytestmark = pytest.mark.slow

N = 1_000_000


def test_a_million_manifest_rows_are_listed_by_a_driver_of_512_mb(tmp_path: Path) -> None:
    manifest, root = tmp_path / "manifest.csv", tmp_path / "tables"
    numbers = np.arange(N)
    uris = pa.array([f"s3://bucket/photos of a lake/{i // 1000:04d}/IMG_{i:07d}.jpg" for i in numbers])
    etags = pa.array([f"{i * 2654435761 % 2**64:032x}" for i in range(N)])
    columns = {"uri": uris, "size_bytes": pa.array(numbers % 5_000_000 + 1_000), "etag": etags}
    pyarrow.csv.write_csv(pa.table({**columns, "camera": pa.array([f"camera {i % 40}" for i in numbers])}), manifest)

    done = inventory(manifest, root)
    assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-4000:]
    table = DeltaTable(f"{root}/images").to_pyarrow_table(columns=["image_id", "uri", "attributes"])
    assert table.num_rows == N
    assert len(set(table["image_id"].to_pylist())) == N
    assert set(table["uri"].to_pylist()) == set(uris.to_pylist())
    (complete,) = (r for r in rows(root, "runs") if r["status"] == "complete")
    assert dict(complete["counts"]) == {"listed": N, "new_or_changed": N, "gone": 0}

    again = inventory(manifest, root, "--run-id", "second")
    assert again.returncode == 0, again.stderr[-4000:] + again.stdout[-4000:]
    last = max((r for r in rows(root, "runs") if r["status"] == "complete"), key=lambda r: r["at"])
    assert dict(last["counts"]) == {"listed": N, "new_or_changed": 0, "gone": 0}


def inventory(manifest: Path, root: Path, *arguments: str) -> Done:
    """`spark-submit` of jobs/01_inventory.py with the driver's heap at 512 MB; the tasks run in the same process."""
    command = [str(ROOT / "spark-submit.sh"), "--platform", "local", "--conf", "spark.driver.memory=512m", "inventory"]
    return in_a_shell([*command, "--", "--lake", str(manifest), "--tables", str(root), *arguments])
