"""Decoder processes that die, hang, run out of memory or talk: each costs its own image and nothing else."""

from __future__ import annotations

import io
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_lake import build_tiny_lake

from dedup_spark.errors import DedupError
from dedup_spark.kernels.decoding.images import REJECT_REASONS, ImageRejected
from dedup_spark.kernels.features.signature import Signature, SignatureSettings, sign_image
from dedup_spark.stages.reading.decoder_pool import DecoderLimits, DecoderPool

SETTINGS = SignatureSettings(max_pixels=10**9, min_side_px=16, thumbnail_px=256, thumbnail_quality=80, input_px=64)
MIB = 2**20

FAULTY_CHILD = '''
"""The decoder child, with faults on order: an image that ends in #fault# has that fault."""
import mmap, os, resource, signal, time
from pathlib import Path
from dedup_spark.stages.reading import decoder_child
from dedup_spark.kernels.features import signature

FOLDER, SOUND = Path({folder!r}), signature.sign_image
LOST = []


def sign_image(data, settings):
    fault = data.split(b"#")[-2].decode() if data.endswith(b"#") else "none"
    (FOLDER / f"{{fault}}-{{os.getpid()}}").touch()
    if fault == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault == "exit":
        os._exit(3)
    elif fault == "hang" or (fault == "wait" and not (FOLDER / "go on").exists()):
        time.sleep(3600)
    elif fault == "talk":
        os.write(1, b"libfoo: warning: talking on standard output")
    elif fault.startswith("leak"):
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        left = int(fault.removeprefix("leak")) << 20
        LOST.append(mmap.mmap(-1, resource.getrlimit(resource.RLIMIT_AS)[0] - mapped - left))
    elif fault == "bug":
        raise RuntimeError("a decoder has a bug")
    return SOUND(data, settings)


signature.sign_image = sign_image
decoder_child.main()
'''

Pools = Callable[..., DecoderPool]


@pytest.fixture
def make_pool(request: pytest.FixtureRequest) -> Iterator[Pools]:
    """Children that leave files behind are not confined."""
    made: list[DecoderPool] = []
    sandbox = "off" if "faults" in request.fixturenames else "required"

    def make(n: int = 1, memory_bytes: int = 2048 * MIB, timeout_seconds: float = 60.0) -> DecoderPool:
        made.append(DecoderPool(n, SETTINGS, DecoderLimits(memory_bytes, timeout_seconds, sandbox)))
        return made[-1]

    yield make
    for pool in made:
        pool.close()


@pytest.fixture
def faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Children have faults on order; in this folder each leaves a file named fault-pid for each image it was given."""
    folder = tmp_path / "faults"
    folder.mkdir()
    script = write_executable(tmp_path / "faulty_child.py", FAULTY_CHILD.format(folder=str(folder)))
    python = write_executable(tmp_path / "python", f'#!/bin/sh\nexec "{sys.executable}" "{script}"\n')
    monkeypatch.setattr(sys, "executable", str(python))
    return folder


def write_executable(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def picture(seed: int) -> bytes:
    """A small PNG of its own for each seed."""
    out = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), np.uint8)
    Image.fromarray(noise).resize((64, 48), Image.Resampling.BICUBIC).save(out, "PNG")
    return out.getvalue()


def plain(signature: Signature) -> dict[str, Any]:
    """A signature as values that `==` can compare."""
    values = {f.name: getattr(signature, f.name) for f in fields(signature)}
    values["model_input"] = values["model_input"].tolist()
    return values


def outcome(sign: Callable[[bytes], Signature], data: bytes) -> dict[str, Any] | tuple[str, str]:
    try:
        return plain(sign(data))
    except ImageRejected as e:
        return e.reason, e.message


def here(data: bytes) -> Signature:
    return sign_image(data, SETTINGS)


def children() -> set[int]:
    """Processes that this one started and has not waited for, dead ones included."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:  # gone meanwhile
            continue
        if parent == os.getpid():
            found.add(int(stat.parent.name))
    return found


def address_space(make_pool: Pools) -> int:
    """Bytes of address space that a child has mapped at most once it has signed a small picture: its libraries take
    some hundred MiB, more on one machine than on the next."""
    before = children()
    make_pool().sign(picture(1))
    (child,) = children() - before
    status = Path(f"/proc/{child}/status").read_text()
    (peak,) = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmPeak:")]
    return peak * 1024


def attempts(faults: Path, fault: str) -> int:
    return len(list(faults.glob(f"{fault}-*")))


def test_every_file_of_the_tiny_lake_gives_what_it_gives_in_this_process(make_pool: Pools, tmp_path: Path) -> None:
    lake = build_tiny_lake(tmp_path)
    pool = make_pool()
    for path in [*lake.truth, *lake.rejects]:
        data = (tmp_path / path).read_bytes()
        assert outcome(pool.sign, data) == outcome(here, data), path


def test_more_threads_than_children_get_each_its_own_answer(make_pool: Pools) -> None:
    before = children()
    pool = make_pool(n=2)
    images = [picture(seed) for seed in range(40)]
    with ThreadPoolExecutor(12) as threads:
        signed = list(threads.map(pool.sign, images))
    assert [plain(s) for s in signed] == [plain(here(image)) for image in images]
    assert len(children() - before) <= 2


def test_children_start_when_first_needed_and_serve_one_image_after_the_other(make_pool: Pools) -> None:
    before = children()
    pool = make_pool(n=3)
    assert children() == before
    for seed in range(3):
        pool.sign(picture(seed))
    started = children() - before
    for seed in range(6):
        pool.sign(picture(seed))
    assert children() - before == started


@pytest.mark.parametrize("fault", ["die", "exit"])
def test_an_image_that_ends_its_decoder_is_tried_twice_and_rejected_and_its_neighbours_are_fine(
    make_pool: Pools, faults: Path, fault: str
) -> None:
    pool = make_pool()
    for seed in (1, 2):
        assert plain(pool.sign(picture(seed))) == plain(here(picture(seed)))
        with pytest.raises(ImageRejected) as rejected:
            pool.sign(picture(9) + f"#{fault}#".encode())
        assert rejected.value.reason == "decoder_crashed"
    assert attempts(faults, fault) == 4
    assert plain(pool.sign(picture(3))) == plain(here(picture(3)))


def test_the_message_of_a_crash_says_how_the_process_ended(make_pool: Pools, faults: Path) -> None:
    pool = make_pool()
    for fault, code in (("exit", "3"), ("die", "-9")):
        with pytest.raises(ImageRejected, match=f"exit code {code}"):
            pool.sign(picture(1) + f"#{fault}#".encode())


def test_a_decoder_killed_in_the_middle_of_an_image_costs_nothing(make_pool: Pools, faults: Path) -> None:
    pool = make_pool()
    data = picture(1) + b"#wait#"
    with ThreadPoolExecutor(1) as thread:
        signed = thread.submit(pool.sign, data)
        while not (waiting := list(faults.glob("wait-*"))):
            assert not signed.done()
            time.sleep(0.01)
        (faults / "go on").touch()
        os.kill(int(waiting[0].name.removeprefix("wait-")), signal.SIGKILL)
        assert plain(signed.result()) == plain(here(data))
    assert attempts(faults, "wait") == 2


def test_a_decoder_killed_between_two_images_costs_nothing(make_pool: Pools) -> None:
    before = children()
    pool = make_pool()
    pool.sign(picture(1))
    (old,) = children() - before
    os.kill(old, signal.SIGKILL)
    assert plain(pool.sign(picture(2))) == plain(here(picture(2)))
    (new,) = children() - before
    assert new != old


def test_a_decoder_that_hangs_is_ended_at_the_limit_and_its_image_not_tried_again(
    make_pool: Pools, faults: Path
) -> None:
    before = children()
    pool = make_pool(timeout_seconds=2.0)
    pool.sign(picture(1))
    hanging = children() - before
    with pytest.raises(ImageRejected) as rejected:
        pool.sign(picture(2) + b"#hang#")
    assert (rejected.value.reason, rejected.value.message) == ("decoder_timeout", "no answer in 2 s")
    assert attempts(faults, "hang") == 1
    assert not children() & hanging
    assert plain(pool.sign(picture(3))) == plain(here(picture(3)))


def test_faults_among_many_threads_cost_their_own_images_only(make_pool: Pools, faults: Path) -> None:
    before = children()
    pool = make_pool(n=2, timeout_seconds=3.0)
    orders = {3: b"#die#", 8: b"#hang#", 9: b"#exit#", 10: b"#bug#", 15: b"#talk#"}
    images = [picture(seed) + orders.get(seed, b"") for seed in range(24)]
    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(lambda data: outcome(pool.sign, data), images))
    rejected = {i: o[0] for i, o in enumerate(outcomes) if isinstance(o, tuple)}
    assert rejected == dict.fromkeys((3, 9, 10), "decoder_crashed") | {8: "decoder_timeout"}
    for i in set(range(24)) - set(rejected):
        assert outcomes[i] == plain(here(images[i])), i
    assert len(children() - before) <= 2


def test_an_unforeseen_error_of_a_decoder_is_a_rejection_and_its_process_lives_on(
    make_pool: Pools, faults: Path
) -> None:
    before = children()
    pool = make_pool()
    with pytest.raises(ImageRejected) as rejected:
        pool.sign(picture(1) + b"#bug#")
    assert rejected.value.reason == "decoder_crashed"
    assert "RuntimeError: a decoder has a bug" in rejected.value.message
    started = children() - before
    pool.sign(picture(2))
    assert children() - before == started


def test_what_a_decoder_prints_does_not_get_into_the_answers(make_pool: Pools, faults: Path) -> None:
    data = picture(1) + b"#talk#"
    assert plain(make_pool().sign(data)) == plain(here(data))
    assert attempts(faults, "talk") == 1


def test_an_image_that_needs_more_memory_than_allowed_is_rejected_and_the_next_one_is_fine(make_pool: Pools) -> None:
    out = io.BytesIO()
    Image.new("RGB", (6000, 6000)).save(out, "PNG")
    huge = out.getvalue()
    pool = make_pool(memory_bytes=address_space(make_pool) + 32 * MIB)
    with pytest.raises(ImageRejected) as rejected:
        pool.sign(huge)
    assert rejected.value.reason in REJECT_REASONS
    assert plain(pool.sign(picture(1))) == plain(here(picture(1)))
    assert make_pool(memory_bytes=2048 * MIB).sign(huge).width_px == 6000  # so it was the limit


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="the limit of another process is set on Linux alone")
@pytest.mark.parametrize("left_mib", [12, 20, 28, 36])
def test_a_sound_image_is_read_where_earlier_ones_left_the_process_large(
    make_pool: Pools, faults: Path, left_mib: int
) -> None:
    """What is short is memory, whatever the library says: `decoder error -9` and -2 are libtiff's words for it."""
    out = io.BytesIO()
    Image.effect_noise((1654, 2339), 40).convert("RGB").save(
        out,
        "TIFF",
        compression="jpeg",
        tiffinfo={278: 2339},  # one strip
    )
    pool = make_pool()
    pool.sign(picture(1) + f"#leak{left_mib}#".encode())
    assert plain(pool.sign(out.getvalue())) == plain(here(out.getvalue()))


def test_bytes_that_do_not_fit_the_memory_of_a_decoder_cost_that_image_only(make_pool: Pools) -> None:
    limit = address_space(make_pool) + 32 * MIB
    pool = make_pool(memory_bytes=limit)
    with pytest.raises(ImageRejected) as rejected:
        pool.sign(picture(1) + bytes(limit))
    assert rejected.value.reason == "decoder_crashed"
    assert plain(pool.sign(picture(2))) == plain(here(picture(2)))


def test_closing_ends_every_process_and_may_be_done_twice(make_pool: Pools) -> None:
    before = children()
    pool = make_pool(n=3)
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(pool.sign, [picture(seed) for seed in range(9)]))
    assert children() - before
    pool.close()
    pool.close()
    assert children() == before


def test_a_decoder_that_cannot_start_is_an_error_that_says_how_to_look(
    make_pool: Pools, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = children()
    pool = make_pool()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    for _ in range(2):  # the second: a failed start must not block the pool
        with pytest.raises(DedupError, match=r"exit code 1.*`/bin/false -m dedup_spark.stages.reading.decoder_child`"):
            pool.sign(picture(1))
    assert children() == before
