"""Which addresses requests may name: files of this machine and objects of stores, by their canonical form.

Addresses of the web are none of them: what a server makes of a path, and where it redirects to, a prefix cannot bound.
"""

from __future__ import annotations

import unicodedata
from urllib.parse import unquote

from dedup_spark.errors import ConfigError
from dedup_spark.sources import addresses

SCHEMES = ("file", "s3", "gs", "abfss", "hdfs")
"""Stores in which a canonical address names one object, whoever reads it."""
_MOST_BYTES = 4096
"""Of an address: what Linux opens, and four times what a key of S3 has. Links are followed in all of it."""
_MOST_UNQUOTED = 16


class NotAllowed(Exception):
    """The address is below no prefix; the message says so."""


def allowed_prefix(address: str) -> str:
    """A folder as `require_allowed` compares it. Raises ConfigError for one of the web, or of a store unknown here."""
    uri = addresses.canonical(address)
    if _scheme(uri) not in SCHEMES:
        raise ConfigError(f"--allow {address}: expected a folder, or a place in one of {', '.join(SCHEMES[1:])}")
    return f"{uri.rstrip('/')}/"


def require_allowed(address: str, prefixes: tuple[str, ...]) -> str:
    """The canonical form of an address below one of the prefixes: `..`, links and other spellings lead nowhere else.

    Raises:
        ValueError: it is no address.
        NotAllowed: it is below no prefix.
    """
    require_text(address)
    uri = addresses.canonical(addresses.canonical(address))
    require_text(uri)
    if not any(uri.startswith(prefix) for prefix in prefixes) or not _is_plain(uri):
        raise NotAllowed("the address is not below a prefix that the service was started with (--allow)")
    return uri


def require_text(address: str) -> None:
    """Raise ValueError where this is no text that logs, tables and file systems hold: too long, a control character or
    half of a surrogate pair."""
    try:
        n_bytes = len(address.encode())
    except UnicodeEncodeError:
        raise ValueError("it holds what is no character") from None
    if n_bytes > _MOST_BYTES:
        raise ValueError(f"it has more than {_MOST_BYTES:,} bytes")
    if any(unicodedata.category(letter) == "Cc" for letter in address):
        raise ValueError("it holds a control character")


def _is_plain(uri: str) -> bool:
    """Whether a client of its store can take it for no other object. Local paths have been resolved."""
    scheme = _scheme(uri)
    if scheme == "file":
        return True
    path = _unquoted(uri)
    return scheme in SCHEMES and path is not None and "\\" not in path and not {".", ".."} & {*path.split("/")}


def _unquoted(text: str) -> str | None:
    """Without %-escapes, of escapes too; None where that does not end."""
    for _ in range(_MOST_UNQUOTED):
        if (plain := unquote(text)) == text:
            return None if any(unicodedata.category(letter) == "Cc" for letter in plain) else plain
        text = plain
    return None


def _scheme(uri: str) -> str:
    return uri.partition("://")[0]
