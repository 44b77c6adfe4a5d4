"""What a person asks to be forgotten: addresses and prefixes, in their one spelling, and as texts may spell them."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from dedup_spark.errors import ConfigError
from dedup_spark.sources import addresses

log = logging.getLogger(__name__)

COLUMNS = "address string, member string, is_prefix boolean"
_SPELLINGS = {"s3": ("s3a", "s3n"), "abfss": ("abfs",), "gs": ("gcs",)}
"""Other schemes of one store that a message may have."""


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

    def rows(self) -> list[tuple[str, str | None, bool]]:
        """COLUMNS. A uri is that of an object, with all images in it, or `object#member`, wherever the # stands."""
        found: list[tuple[str, str | None, bool]] = []
        for uri in self.uris:
            found.append((uri, None, False))
            found += [(uri[:i], uri[i + 1 :], False) for i, letter in enumerate(uri) if letter == "#" and uri[i + 1 :]]
        return found + [(prefix, None, True) for prefix in self.prefixes]

    def spellings(self) -> tuple[str, ...]:
        """What a text has in it that names one of these images: the address, as other tools spell it too."""
        return tuple(dict.fromkeys(s for address in (*self.uris, *self.prefixes) for s in _spellings(address)))


def _spellings(address: str) -> list[str]:
    scheme, _, rest = address.partition("://")
    if scheme == "file":
        found = [addresses.to_path(address)]  # `file:///a`, `file:/a` and `/a` all hold it
    else:
        found = [f"{name}://{rest}" for name in (scheme, *_SPELLINGS.get(scheme, ()))]
    return found + [quote(text, safe="/:@") for text in found if quote(text, safe="/:@") != text]
