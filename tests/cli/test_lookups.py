"""The command `serve`, before it serves."""

from __future__ import annotations

import subprocess
import sys

NUMBERS_OF_THREADS = """
import sys, types
service = types.ModuleType("server")
def serve(*_):
    import faiss, numpy, threadpoolctl
    print({pool["num_threads"] for pool in threadpoolctl.threadpool_info()})
service.serve = serve
sys.modules["dedup_spark.lookup.service.server"] = service
from dedup_spark.cli.command_line import main
sys.exit(main(["serve", "--tables", "nowhere"]))
"""


def test_requests_run_side_by_side_so_each_multiplies_on_one_thread() -> None:
    found = subprocess.run([sys.executable, "-c", NUMBERS_OF_THREADS], capture_output=True, text=True, check=False)
    assert found.stdout.strip() == "{1}", found
