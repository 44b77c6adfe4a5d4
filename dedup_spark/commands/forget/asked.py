"""What a person asks to be forgotten: addresses and prefixes, in their one spelling, and as texts may spell them."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from dedup_spark.errors import ConfigError
from dedup_spark.sources import addresses

log = logging.getLogger(__name__)

COLUMNS = "address string, member string, is_prefix boolean, position int"
ROW_OF_A_FILE = r"\.[A-Za-z0-9]+#[0-9]+$"
"""A member that is a data file and a number in it (sources/table.py), for Spark and for Python."""
_SPELLINGS = {"s3": ("s3a", "s3n"), "abfss": ("abfs",), "gs": ("gcs",)}
"""Other schemes of one store that a message may have."""
_END = r"(?![\w/-]|\.\w)"
_ESCAPED = r"(?<=\\[nrtbf])"
"""JSON writes the end of a line with a letter."""
_BEGIN = rf"(?:(?<![A-Za-z0-9+.-])|{_ESCAPED})"
"""Before a scheme."""
_BEGIN_OF_PATH = rf"(?:(?<![\w/.~%+@)\]}}!$&*-])|(?<=file://)|(?<=file://localhost)|{_ESCAPED})"
"""Before the path of a local file: not within a longer path, nor behind the name of a bucket."""


@dataclass(frozen=True)
class Asked:
    """`uris` and `prefixes` are canonical; nothing else is known of them."""

    uris: tuple[str, ...]
    prefixes: tuple[str, ...]

    @classmethod
    def of(cls, uris: Sequence[str | os.PathLike[str]], prefixes: Sequence[str | os.PathLike[str]]) -> Asked:
        """Raises ConfigError where nothing is asked for, or a prefix names no place of a store."""
        asked = cls(
            tuple(addresses.canonical(os.path.expanduser(os.fspath(uri))) for uri in uris),
            tuple(addresses.to_prefix(os.fspath(prefix)) for prefix in prefixes),
        )
        asked._require_sense()
        return asked

    def _require_sense(self) -> None:
        if not self.uris and not self.prefixes:
            raise ConfigError("forget: give the images as --uri ADDRESS or --prefix ADDRESS; both may be repeated")
        vague = [prefix for prefix in self.prefixes if not prefix.partition("://")[2].strip("/")]
        if vague:
            raise ConfigError(f"--prefix {vague[0]}: names no bucket and no folder, so it would be everything")
        for prefix in self.prefixes:
            if not prefix.endswith("/"):
                log.warning("forget: %s is the beginning of longer names too: end it with / for a folder", prefix)

    def rows(self) -> list[tuple[str, str | None, bool, int]]:
        """COLUMNS. A uri is that of an object, with all images in it, or `object#member`, wherever the # stands.

        `position` is that of the uri or prefix, first all uris and then all prefixes: see `names_of_others`.
        """
        found: list[tuple[str, str | None, bool, int]] = []
        for position, uri in enumerate(self.uris):
            found.append((uri, None, False, position))
            found += [(object_, member, False, position) for object_, member in _members(uri)]
        return found + [(prefix, None, True, i) for i, prefix in enumerate(self.prefixes, len(self.uris))]

    def names_of_others(self, positions: Collection[int]) -> list[str]:
        """Of what is asked for at other positions, how a person finds it in the command, without its address."""
        names = [f"--uri number {i}" for i in range(1, len(self.uris) + 1)]
        names += [f"--prefix number {i}" for i in range(1, len(self.prefixes) + 1)]
        return [name for position, name in enumerate(names) if position not in positions]

    def pattern(self) -> str:
        """A regular expression for what names one of these images in a text: the address, as other tools spell it too.

        A name that only begins so (`a.jpg` in `a.jpgs` or `a.jpg.json`) is another one, and so is a path that only ends
        so (`/photos/` in `/mnt/photos/`). A member is written behind its object with # or, in notes, with a space.
        """
        in_notes = [f"{object_} {member}" for uri in self.uris for object_, member in _members(uri)]
        uris = [spelling + _END for uri in (*self.uris, *in_notes) for spelling in _patterns(uri)]
        prefixes = [spelling for prefix in self.prefixes for spelling in _patterns(prefix)]
        return "|".join(dict.fromkeys([*uris, *prefixes]))


def _members(uri: str) -> Iterator[tuple[str, str]]:
    """Every object and member that the uri may stand for."""
    for i, letter in enumerate(uri):
        if letter == "#" and uri[i + 1 :]:
            yield uri[:i], uri[i + 1 :]


def _patterns(address: str) -> list[str]:
    begin = _BEGIN_OF_PATH if address.startswith("file://") else _BEGIN
    return [begin + re.escape(spelling) for spelling in _spellings(address)]


def _spellings(address: str) -> list[str]:
    scheme, _, rest = address.partition("://")
    if scheme == "file":
        found = [addresses.to_path(address)]  # `file:///a`, `file:/a` and `/a` all hold it
    else:
        found = [f"{name}://{rest}" for name in (scheme, *_SPELLINGS.get(scheme, ()))]
    return found + [quote(text, safe="/:@") for text in found if quote(text, safe="/:@") != text]
