"""`python -m dedup_spark` is `dedup-spark`."""

import sys

from dedup_spark.cli import main

sys.exit(main())
