"""`python -m dedup_spark` is `dedup-spark`."""

import sys
from pathlib import Path

if not sys.flags.safe_path and sys.path and Path(sys.path[0]).samefile("."):
    # -m puts the current folder first, and in it there may be a lake: a file struct.py among its images is no module.
    # At the end it serves those who run the package from its checkout.
    sys.path.append(sys.path.pop(0))

from dedup_spark.cli import main

sys.exit(main())
