"""The one place that knows what a secret in an address or a message looks like, and leaves it out.

Keys reach us in addresses (`https://user:password@host`, `...?sig=...`), in settings and in what libraries say of them.
Tables, logs, pages and messages are read by more people than keys are meant for. An identity of an image never depends
on a key either: a signature is another one tomorrow.
"""

from __future__ import annotations

import logging
import re

from dedup_spark.errors import ConfigError
from dedup_spark.printable import printable

HIDDEN = "***"
_SECRET_NAME = (
    r"sig|signature|[\w.-]{0,64}token|[\w.-]{0,64}secret[\w.-]{0,64}|[\w.-]{0,64}password|passwd|pwd|"
    r"[\w.-]{0,64}credentials?|awsaccesskeyid|"
    r"access[_-]?key(?:[_-]?id)?|account[_-]?key|api[_-]?key|[\w.-]{0,64}\.(?:account\.key|access\.key|secret\.key)[\w.-]{0,64}|"
    r"x-(?:amz|goog)-(?:signature|credential|security-token)|sharedaccesssignature|key"
)
_USERINFO = re.compile(
    r"(?<=://)[^/\s\"'<>@?#:]*+:[^/\s\"'<>@]*+@|(?<=http://)[^/\s\"'<>@]++@|(?<=https://)[^/\s\"'<>@]++@"
)
"""A name and a password; without a colon it is a container of Azure, but for http. Nothing is tried twice: an address
of a million colons must not hold a task for hours."""
_IN_QUERY = re.compile(rf"(?<=[?&;])((?:{_SECRET_NAME})=)[^&\s\"'<>#;]+", re.IGNORECASE)
_IN_TEXT = re.compile(
    rf"\b((?:{_SECRET_NAME.removesuffix('|key')})[\"']?\s*[=:]\s*[\"']?)[^\s\"',;&}}]+", re.IGNORECASE
)
_KEYS = re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{30,}|\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*")
"""Key ids of AWS, tokens of GitHub, and signed web tokens."""
IN_ADDRESSES = ((_USERINFO.pattern, f"{HIDDEN}@"), (f"(?i){_IN_QUERY.pattern}", f"$1{HIDDEN}"))
"""Patterns and replacements for those who clean a column with Java's expressions, as Spark's regexp_replace."""
_SIGNED_QUERY = re.compile(rf"(?:^|[?&;])(?:{_SECRET_NAME})=", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """`text` with `***` for passwords, keys and signatures. Cost: some microseconds; text without a sign of any is
    returned as it is."""
    text = _USERINFO.sub(f"{HIDDEN}@", text) if "@" in text else text
    if "=" in text or ":" in text:
        text = _IN_TEXT.sub(rf"\1{HIDDEN}", _IN_QUERY.sub(rf"\1{HIDDEN}", text))
    return _KEYS.sub(HIDDEN, text)


def require_no_key(address: str) -> None:
    """Raise ConfigError where an address that a person gives holds a password or a signature."""
    if _USERINFO.search(address):
        found = "a user name or a password"
    elif _is_signed(address):
        found = "a signature or a token"
    else:
        return
    raise ConfigError(
        f"{without_secrets(address)}: there is {found} in the address, and addresses are stored and shown. "
        "Give keys to the job as the store's client finds them: the role of the cluster, AWS_PROFILE, "
        "AWS_ACCESS_KEY_ID and the like (docs/operations.md)"
    )


def without_userinfo(address: str) -> str:
    """The address without user name and password."""
    return _USERINFO.sub("", address)


def without_key(address: str) -> str:
    """The address of a web server without user name, password and signed query: what is stored and what is identity."""
    address = without_userinfo(address)
    return address.partition("?")[0] if _is_signed(address) else address


def _is_signed(address: str) -> bool:
    return _SIGNED_QUERY.search(address.partition("?")[2].partition("#")[0]) is not None


class RedactingFormatter(logging.Formatter):
    """Log lines, traces included, without secrets and without characters that a terminal obeys."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(without_secrets(super().format(record)))
