"""Names as text and back: no two names are one text, whatever bytes they hold."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from dedup_spark.sources import addresses, names
from dedup_spark.sources.base import Address
from dedup_spark.sources.folder import FolderSource

GOLDEN = {  # addresses in tables that exist
    b"plain.jpg": "plain.jpg",
    "é 写真.jpg".encode(): "é 写真.jpg",
    b"caf\xe9.jpg": "caf\uf7e9.jpg",
    b"\xff\xfe": "\uf7ff\uf7fe",
    "private\uf7e9use.jpg".encode(): "private\uf7ef\uf79f\uf7a9use.jpg",
    "below \uf77f and above \uf800.jpg".encode(): "below \uf77f and above \uf800.jpg",
}


@pytest.mark.parametrize("name", GOLDEN, ids=repr)
def test_a_name_has_one_text_that_never_changes(name: bytes) -> None:
    assert names.to_text(os.fsdecode(name)) == GOLDEN[name]
    assert os.fsencode(names.from_text(GOLDEN[name])) == name


def random_name(seed: int) -> bytes:
    rng = random.Random(seed)
    parts = [
        lambda: chr(rng.randint(0xF780, 0xF7FF)).encode(),
        lambda: bytes([rng.randint(0x80, 0xFF)]),
        lambda: rng.choice("aé\U0001f600\uf77f\uf800\u2028").encode(),
    ]
    return b"".join(rng.choice(parts)() for _ in range(rng.randint(1, 6)))


def test_no_two_names_share_a_text_and_each_text_is_valid() -> None:
    by_text: dict[str, bytes] = {}
    for seed in range(20_000):
        name = random_name(seed)
        text = names.to_text(os.fsdecode(name))
        assert text.encode().decode() == text
        assert names.from_text(text) == os.fsdecode(name), seed
        assert by_text.setdefault(text, name) == name, seed


@pytest.mark.parametrize("folder", [".", "in \uf7e9 there"])
def test_real_private_use_characters_stand_beside_bytes_that_are_no_text(folder: str, tmp_path: Path) -> None:
    wanted = {"private\uf7e9use.jpg".encode(), b"private\xe9use.jpg"}
    (tmp_path / folder).mkdir(exist_ok=True)
    for name in wanted:
        (tmp_path / folder / os.fsdecode(name)).write_bytes(name)
    source = FolderSource(str(tmp_path))
    listed = [entry.uri for entry in source._walk(source.root, recursive=True)]
    assert {source.fetch(Address(uri)) for uri in listed} == wanted
    assert {addresses.canonical(uri) for uri in listed} == set(listed)


def test_a_name_that_a_person_writes_as_it_is_leads_to_its_file(tmp_path: Path) -> None:
    root = f"file://{tmp_path}"
    literal, escaped = f"{root}/private\uf7e9use.jpg", f"{root}/private\uf7ef\uf79f\uf7a9use.jpg"
    file = tmp_path / "private\uf7e9use.jpg"
    assert addresses.canonical(literal) == literal  # there is neither file: it means the byte
    file.touch()
    for spelled in (str(file), literal, escaped):
        assert addresses.canonical(spelled) == escaped
    assert addresses.canonical("private\uf7e9use.jpg", root) == escaped
    file.rename(tmp_path / os.fsdecode(b"private\xe9use.jpg"))
    assert addresses.canonical(literal) == literal
