"""Secrets in addresses and messages: none of them is left, and nothing else is touched."""

from __future__ import annotations

import logging

import pytest

from dedup_spark.errors import ConfigError
from dedup_spark.redaction import RedactingFormatter, require_no_key, without_secrets
from dedup_spark.sources import addresses

CANARY = "c4n4ryS3cr3t"
WITH_SECRETS = [
    f"https://me:{CANARY}@host/a.jpg",
    f"https://{CANARY}@host/a.jpg",
    f"s3://AKIDEXAMPLE:{CANARY}@bucket/a.jpg",
    f"https://account.blob.core.windows.net/c/a.jpg?sv=2024&se=2026-01-01&sig={CANARY}%3D",
    f"https://b.s3.amazonaws.com/a.jpg?X-Amz-Credential={CANARY}&X-Amz-Signature={CANARY}&X-Amz-Expires=1",
    f"https://storage.googleapis.com/b/a.jpg?X-Goog-Signature={CANARY}",
    f"https://host/a.jpg?w=3&access_token={CANARY}",
    f"https://host/a.jpg?AWSAccessKeyId={CANARY}&Signature={CANARY}",
    f"https://host/a.jpg?key={CANARY}",
]
IN_TEXT = [
    f"fs.s3a.secret.key={CANARY}", f"fs.azure.account.key.me.dfs.core.windows.net: {CANARY}",
    f'{{"aws_secret_access_key": "{CANARY}"}}', f"password={CANARY}, user=me", f"AWS_SECRET_ACCESS_KEY={CANARY}",
    f"Client(aws_session_token='{CANARY}')", f"AccountKey={CANARY};EndpointSuffix=core", "AKIAIOSFODNN7EXAMPLE",
    "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
]  # fmt: skip
PLAIN = [
    "abfss://container@account.dfs.core.windows.net/a.jpg", "s3://bucket/a@b:c/d.jpg", "s3://bucket/key=1/sig.jpg",
    "file:///lake/me:you@home/a.jpg", "https://host/a.jpg?w=3&h=4", "12:30:11 INFO extract: done in 3 s (images 4)",
    "images: 3, removable: 2", "s3://bucket/a?b", "SELECT count(*) FROM clusters WHERE is_keeper = true",
]  # fmt: skip


@pytest.mark.parametrize("text", [*WITH_SECRETS, *IN_TEXT])
def test_secrets_are_left_out_of_texts(text: str) -> None:
    shown = without_secrets(f"reading {text} failed")
    assert CANARY not in shown
    assert "***" in shown
    assert shown.startswith("reading ")
    assert without_secrets(shown) == shown


@pytest.mark.parametrize("text", PLAIN)
def test_other_texts_are_left_as_they_are(text: str) -> None:
    assert without_secrets(text) == text


@pytest.mark.parametrize("address", WITH_SECRETS)
def test_an_address_with_a_key_is_refused_with_what_to_use_instead(address: str) -> None:
    with pytest.raises(ConfigError, match="AWS_PROFILE") as refused:
        require_no_key(address)
    assert CANARY not in str(refused.value)
    with pytest.raises(ConfigError):
        addresses.to_uri(address)


@pytest.mark.parametrize("address", [address for address in PLAIN if "://" in address])
def test_an_address_without_one_is_taken(address: str) -> None:
    require_no_key(address)


@pytest.mark.parametrize("address", WITH_SECRETS)
def test_a_key_is_no_part_of_the_identity_of_an_image(address: str) -> None:
    spelled = addresses.canonical(address)
    assert CANARY not in spelled
    assert spelled == addresses.canonical(address.replace(CANARY, "another")) == addresses.canonical(spelled)


def test_the_key_of_an_object_is_literal_whatever_it_looks_like() -> None:
    for address in ("s3://bucket/a@b.jpg?key=1&sig=2", "gs://bucket/x?token=3@y"):
        assert addresses.canonical(address) == address


def test_a_query_that_is_no_signature_stays_part_of_the_address() -> None:
    assert addresses.canonical("https://host/a.jpg?id=7") == "https://host/a.jpg?id=7"


def test_log_lines_and_their_traces_hold_no_secrets() -> None:
    try:
        raise OSError(f"https://me:{CANARY}@host said no")
    except OSError as e:
        record = logging.LogRecord("a", 30, "f", 1, "asked %s", (f"http://x/?sig={CANARY}",), (type(e), e, None))
    line = RedactingFormatter("%(message)s").format(record)
    assert CANARY not in line
    assert "said no" in line
