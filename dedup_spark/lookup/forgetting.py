"""Takes images out of the additions beside a set of tables, when `dedup-spark forget` forgets them."""

from __future__ import annotations

from collections.abc import Sequence

from dedup_spark.lookup.added import Entry
from dedup_spark.lookup.added_log import AddedLog
from dedup_spark.lookup.places import states_there
from dedup_spark.store import reader


def forget_added(tables: str, uris: Sequence[str], prefixes: Sequence[str], state: str | None = None) -> int:
    """Take what was added at these canonical addresses, or below these prefixes, out of the logs and manifests on this
    machine; returns how many. Processes that look up know it no more when they see that the tables have changed."""

    def is_asked(entry: Entry) -> bool:
        return entry.uri in uris or entry.uri.startswith(tuple(prefixes))

    return sum(AddedLog(folder).retire(is_asked) for folder in states_there(reader.root_of(tables), state))
