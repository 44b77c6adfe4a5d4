"""What look-ups answer, over tables of a few photos: by bytes, by pixels, by likeness; and what they answer not."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import lookups
import numpy as np
import pytest
from PIL import Image

from dedup_spark.cli import main
from dedup_spark.errors import ConfigError, DedupError
from dedup_spark.kernels.features.hashing import content_hash
from dedup_spark.lookup.answers import Answer, Outcome
from dedup_spark.lookup.lookup import Lookup
from dedup_spark.vocabulary import DecidedBy, Relation
from lookup.conftest import CAT, COFFEE, ROCKET, images_of_lake, options


def uris(answer: Answer) -> list[str]:
    return [found.uri for found in answer.copies]


def test_equal_bytes_answer_without_a_decoder_and_a_model(opened: Lookup) -> None:
    answer = opened.lookup(images_of_lake()[COFFEE])
    assert answer.outcome == Outcome.COPIES
    assert sorted(uris(answer)) == ["file:///lake/coffee again.jpg", COFFEE]
    assert {found.relation for found in answer.copies} == {Relation.SAME_BYTES}
    assert set(answer.seconds) == {"search"}
    assert answer.pixel_hash is None


def test_equal_pixels_answer_without_a_model(opened: Lookup) -> None:
    data = lookups.png(lookups.opened(images_of_lake()[ROCKET]))
    answer = opened.lookup(data)
    assert uris(answer) == [ROCKET]
    assert answer.copies[0].relation == Relation.SAME_PIXELS
    assert "embed" not in answer.seconds


def test_an_exhaustive_look_up_goes_on_and_names_each_image_once(opened: Lookup) -> None:
    answer = opened.lookup(images_of_lake()[CAT], exhaustive=True, others=True)
    relations = {found.uri: found.relation for found in answer.copies}
    assert relations == {CAT: Relation.SAME_BYTES, "file:///lake/cat.png": Relation.SAME_PIXELS}
    assert not {CAT, "file:///lake/cat.png"} & {found.uri for found in answer.others}


@pytest.mark.parametrize("name", ["coffee.png", "chelsea.png", "rocket.jpg"])
def test_an_edited_copy_is_found_and_says_why(opened: Lookup, name: str) -> None:
    answer = opened.lookup(lookups.edited(lookups.photo(name)))
    assert answer.outcome == Outcome.COPIES
    assert all(Path(name).stem.split("_")[0][:3] in uri or "cat" in uri for uri in uris(answer))
    found = answer.copies[0]
    assert found.decided_by == DecidedBy.GEOMETRY
    assert "cropped" in (found.edit or "")
    assert found.copy_probability is not None
    assert found.copy_probability >= 0.98
    assert "cosine" in found.why
    assert found.n_equal == (1 if name == "rocket.jpg" else 2)


def test_a_resized_copy_is_reencoded(opened: Lookup) -> None:
    image = lookups.photo("rocket.jpg")
    [found] = opened.lookup(lookups.jpeg(image.resize((image.width // 2, image.height // 2)))).copies
    assert (found.uri, found.relation) == (ROCKET, Relation.REENCODED)


def test_another_picture_has_no_copy(opened: Lookup) -> None:
    answer = opened.lookup(lookups.jpeg(lookups.photo("astronaut.png")), others=True)
    assert (answer.outcome, answer.copies) == (Outcome.NO_COPY, ())
    assert all(not found.is_copy and found.relation is None for found in answer.others)


@pytest.mark.parametrize(("data", "reason"), [(b"", "empty"), (b"no image", "not_an_image"), (b"\xff\xd8\xff", "")])
def test_what_is_no_image_is_rejected_with_the_reason_of_extract(opened: Lookup, data: bytes, reason: str) -> None:
    answer = opened.lookup(data)
    assert answer.outcome == Outcome.REJECTED
    assert answer.reason
    assert answer.reason.startswith(reason)
    assert answer.message


def test_several_images_are_answered_as_each_alone(opened: Lookup) -> None:
    images = [lookups.edited(lookups.photo("coffee.png")), b"no image", images_of_lake()[CAT]]
    together, alone = opened.lookup(images), [opened.lookup(data) for data in images]
    assert [(a.outcome, uris(a)) for a in together] == [(a.outcome, uris(a)) for a in alone]
    for a, b in zip(together, alone, strict=True):
        for one, other in zip(a.copies, b.copies, strict=True):
            assert one.copy_probability == pytest.approx(other.copy_probability, abs=1e-4)


def test_the_index_says_which_run_it_is_and_how_old(opened: Lookup) -> None:
    index = opened.index
    assert (index.run_id, index.n_images, index.n_added) == ("r1", 6, 0)
    age = (datetime.now(UTC) - index.checked_at).total_seconds()
    assert index.age_seconds == pytest.approx(age, abs=5)


def test_what_is_added_is_found_at_once_by_bytes_and_by_likeness(looked_up_tables: Path, tmp_path: Path) -> None:
    new = lookups.photo("astronaut.png")
    with Lookup.open(looked_up_tables, options(tmp_path)) as lookup:
        assert lookup.add(lookups.jpeg(new), "file:///lake/astronaut.jpg").outcome == Outcome.NO_COPY
        assert uris(lookup.lookup(lookups.jpeg(new))) == ["file:///lake/astronaut.jpg"]
        [found] = lookup.lookup(lookups.edited(new)).copies
        assert (found.uri, found.is_added, found.image_id) == ("file:///lake/astronaut.jpg", True, None)
        assert lookup.index.n_added == 1


def test_what_is_added_outlives_the_process_and_reaches_others(looked_up_tables: Path, tmp_path: Path) -> None:
    new = lookups.photo("astronaut.png")
    with (
        Lookup.open(looked_up_tables, options(tmp_path)) as one,
        Lookup.open(looked_up_tables, options(tmp_path)) as other,
    ):
        one.add(lookups.jpeg(new), "file:///lake/a.jpg")
        assert uris(other.lookup(lookups.edited(new))) == ["file:///lake/a.jpg"]
    with Lookup.open(looked_up_tables, options(tmp_path)) as later:
        assert uris(later.lookup(lookups.edited(new))) == ["file:///lake/a.jpg"]


def test_what_cannot_be_read_is_not_added(looked_up_tables: Path, tmp_path: Path) -> None:
    with Lookup.open(looked_up_tables, options(tmp_path)) as lookup:
        assert lookup.add(b"no image", "file:///lake/x").outcome == Outcome.REJECTED
        with pytest.raises(ConfigError, match="address"):
            lookup.add(images_of_lake()[CAT], " ")
        assert lookup.index.n_added == 0


def test_what_never_matches_is_answered_so_and_found_by_nobody(looked_up_tables: Path, tmp_path: Path) -> None:
    coffee = images_of_lake()[COFFEE]
    with Lookup.open(looked_up_tables, options(tmp_path)) as lookup:
        lookup.never_match(coffee, reason="our logo")
        answer = lookup.lookup(coffee)
        assert (answer.outcome, answer.reason) == (Outcome.NEVER_MATCH, "our logo")
        assert lookup.lookup(lookups.png(lookups.opened(coffee))).outcome == Outcome.NEVER_MATCH
        assert lookup.lookup(lookups.edited(lookups.photo("coffee.png"))).outcome == Outcome.NO_COPY
        with pytest.raises(ConfigError, match="an image or a hash"):
            lookup.never_match()


def test_a_new_run_takes_over_what_was_added_and_look_ups_go_on_meanwhile(tmp_path: Path) -> None:
    root, new = tmp_path / "tables", lookups.jpeg(lookups.photo("astronaut.png"))
    lookups.finish_run(root, images_of_lake())
    wrong: list[str] = []
    with Lookup.open(root, options(tmp_path)) as lookup:
        lookup.add(new, "file:///lake/astronaut.jpg")
        lookup.add(lookups.jpeg(lookups.photo("coins.png")), "file:///elsewhere/coins.jpg")
        done = threading.Event()

        def ask() -> None:
            while not done.is_set():
                if uris(lookup.lookup(new)) != ["file:///lake/astronaut.jpg"]:
                    wrong.append("not found")

        thread = threading.Thread(target=ask)
        thread.start()
        lookups.finish_run(root, {"file:///lake/astronaut.jpg": new, **images_of_lake()}, "r2")
        assert lookup.reload()
        assert not lookup.reload()
        done.set()
        thread.join()
        assert not wrong
        assert (lookup.index.run_id, lookup.index.n_images, lookup.index.n_added) == ("r2", 7, 1)
        assert not lookup.lookup(new).copies[0].is_added
    assert len([*(tmp_path / "cache").rglob("*.arrow")]) == 2  # what only the run before needed is deleted


def test_a_run_under_way_does_not_disturb(tmp_path: Path) -> None:
    root = tmp_path / "tables"
    lookups.finish_run(root, images_of_lake())
    with Lookup.open(root, options(tmp_path)) as lookup:
        lookups.begin_run(root, "r2")  # features are written anew, clusters not yet
        assert not lookup.reload()
        assert uris(lookup.lookup(images_of_lake()[ROCKET])) == [ROCKET]
    with Lookup.open(root, options(tmp_path / "another cache")) as lookup:
        assert uris(lookup.lookup(images_of_lake()[ROCKET])) == [ROCKET]


def test_a_lake_is_looked_up_whose_large_photos_were_scaled_while_they_were_decoded(tmp_path: Path) -> None:
    """Their pixel hashes are written otherwise."""
    large = lookups.photo("coffee.png").resize((1300, 1030))
    data, other_metadata = (lookups.jpeg(large, comment=text) for text in ("one", "other"))
    lookups.finish_run(tmp_path / "tables", {COFFEE: data, CAT: images_of_lake()[CAT]}, settings=SCALED)
    with Lookup.open(tmp_path / "tables", options(tmp_path)) as lookup:
        assert lookup.lookup(data).copies[0].relation == Relation.SAME_BYTES
        answer = lookup.lookup(other_metadata)
        assert [found.relation for found in answer.copies] == [Relation.SAME_PIXELS]
        assert str(answer.pixel_hash).startswith("scaled-2:")
        assert uris(lookup.lookup(lookups.jpeg(large, 70))) == [COFFEE]
        lookup.never_match(pixel_hash=answer.pixel_hash, reason="a cup")
        assert {lookup.lookup(one).outcome for one in (data, other_metadata)} == {Outcome.NEVER_MATCH}


SCALED = {"extract.pixels": "scaled"}


def test_a_blank_picture_is_no_copy_of_another_blank_one(tmp_path: Path) -> None:
    root = tmp_path / "tables"
    lookups.finish_run(root, {"file:///lake/white.jpg": lookups.jpeg(Image.new("RGB", (300, 200), "white"))})
    with Lookup.open(root, options(tmp_path)) as lookup:
        answer = lookup.lookup(lookups.jpeg(Image.new("RGB", (320, 240), (254, 254, 254))), others=True)
        assert answer.outcome == Outcome.NO_COPY
        assert "blank" in answer.others[0].why


def test_look_ups_need_neither_spark_nor_java(looked_up_tables: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(lookups.edited(lookups.photo("rocket.jpg")))
    program = (
        "import sys; sys.modules['pyspark'] = sys.modules['py4j'] = None\n"
        "from dedup_spark.cli import main\nsys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "lookup", "--tables", str(looked_up_tables), str(tmp_path / "a.jpg")]
    done = subprocess.run(
        [*command, "--cache", str(tmp_path)], capture_output=True, text=True, check=False,
        env={"PATH": "/nonexistent", "HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "a copy of 1 image of 6" in done.stdout
    assert ROCKET in done.stdout


def test_a_run_with_another_model_is_opened_with_that_model_or_said_to_be_impossible(tmp_path: Path) -> None:
    root = tmp_path / "tables"
    lookups.finish_run(root, images_of_lake())
    with Lookup.open(root, options(tmp_path)) as lookup:
        lookups.without_vectors(root)
        assert lookup.reload()
        assert uris(lookup.lookup(images_of_lake()[ROCKET])) == [ROCKET]
        near = lookup.lookup(lookups.jpeg(lookups.photo("rocket.jpg"), 88))
        assert [found.decided_by for found in near.copies] == [DecidedBy.PHASH]
        lookups.with_model(root, "sscd_distilled/000000000000/fp32/other")
        with pytest.raises(ConfigError, match="this installation computes"):
            lookup.reload()
        assert lookup.index.run_id == "without vectors"


def test_a_listed_hash_of_any_kind_goes_before_equal_bytes_and_pixels(looked_up_tables: Path, tmp_path: Path) -> None:
    coffee = images_of_lake()[COFFEE]
    with Lookup.open(looked_up_tables, options(tmp_path)) as lookup:
        row = lookup.lookup(lookups.png(lookups.opened(coffee)))
        assert row.pixel_hash is not None
    for number, kind in enumerate(("pixel_hash", "phash")):
        value = row.pixel_hash if kind == "pixel_hash" else f"{(row.phash or 0) & (2**64 - 1):016x}"
        with Lookup.open(looked_up_tables, options(tmp_path / str(number))) as lookup:
            lookup.never_match(**{kind: value}, reason="a logo")
            for how in ({}, {"exhaustive": True}):
                answer = lookup.lookup(coffee, **how)
                assert (answer.outcome, answer.reason, answer.copies) == (Outcome.NEVER_MATCH, "a logo", ())
    with Lookup.open(looked_up_tables, options(tmp_path / "bytes")) as lookup:
        lookup.never_match(content_hash=content_hash(coffee))
        assert lookup.lookup(lookups.png(lookups.opened(coffee))).copies == ()


def test_what_is_gone_leaves_the_cache_at_the_next_open(tmp_path: Path) -> None:
    root, left = tmp_path / "tables", images_of_lake()
    lookups.finish_run(root, left)
    with Lookup.open(root, options(tmp_path)):
        before = {path.name for path in (tmp_path / "cache").rglob("*.arrow")}
    del left[ROCKET]
    lookups.finish_run(root, left, "r2")
    with Lookup.open(root, options(tmp_path)):
        after = {path.name for path in (tmp_path / "cache").rglob("*.arrow")}
    assert len(before) == len(after) == 2
    assert not before & after


def test_a_cached_copy_that_a_loss_of_power_left_empty_is_made_anew(tmp_path: Path) -> None:
    lookups.finish_run(tmp_path / "tables", images_of_lake())
    with Lookup.open(tmp_path / "tables", options(tmp_path)):
        pass
    for path in (tmp_path / "cache").rglob("*.arrow"):
        path.write_bytes(b"")
    with Lookup.open(tmp_path / "tables", options(tmp_path)) as lookup:
        assert uris(lookup.lookup(images_of_lake()[ROCKET])) == [ROCKET]


def test_only_a_run_that_holds_an_image_retires_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one of another lake, nor one that found other bytes at its address."""
    root, new = tmp_path / "tables", lookups.jpeg(lookups.photo("moon.png"))
    lookups.finish_run(root, images_of_lake())
    with Lookup.open(root, options(tmp_path)) as lookup:
        lookup.add(new, CAT)
        monkeypatch.setattr(lookups, "LAKE", "file:///other/sources.csv")
        lookups.finish_run(root, images_of_lake(), "r2")
        assert lookup.reload()
        assert uris(lookup.lookup(new)) == [CAT]
        assert set(lookup.lakes) == {"file:///lake", "file:///other/sources.csv"}
        lookups.finish_run(root, images_of_lake() | {CAT: new}, "r3")
        assert lookup.reload()
        assert [found.is_added for found in lookup.lookup(new).copies] == [False]


def test_an_addition_is_taken_back_everywhere_and_from_the_disk(looked_up_tables: Path, tmp_path: Path) -> None:
    new, uri = lookups.jpeg(lookups.photo("astronaut.png")), "file:///lake/to be taken back.jpg"
    with (
        Lookup.open(looked_up_tables, options(tmp_path)) as one,
        Lookup.open(looked_up_tables, options(tmp_path)) as other,
    ):
        one.add(new, uri)
        one.add(new, uri)
        assert uris(other.lookup(new)) == [uri]
        assert other.index.n_added == 1
        assert (other.remove(uri), other.remove(uri)) == (1, 0)
        assert uris(one.lookup(new)) == uris(other.lookup(new)) == []
    assert not any(b"taken back" in path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file())


@pytest.mark.parametrize("uri", ["s3://bucket/\ud800", "file:///lake/a\0b", ""])
def test_an_address_that_no_manifest_holds_is_refused_and_nothing_is_lost(
    looked_up_tables: Path, tmp_path: Path, uri: str
) -> None:
    with Lookup.open(looked_up_tables, options(tmp_path)) as lookup, pytest.raises(ConfigError, match="address"):
        lookup.add(images_of_lake()[CAT], uri)
    with Lookup.open(looked_up_tables, options(tmp_path)) as lookup:
        assert lookup.index.n_added == 0


def test_what_the_run_would_not_read_is_rejected_and_not_added(tmp_path: Path) -> None:
    lookups.finish_run(tmp_path / "tables", images_of_lake(), settings={"extract.max_object_bytes": 10_000})
    with Lookup.open(tmp_path / "tables", options(tmp_path)) as lookup:
        data = lookups.jpeg(lookups.photo("brick.png"), 95)
        assert len(data) > 10_000
        assert (lookup.lookup(data).outcome, lookup.lookup(data).reason) == (Outcome.REJECTED, "too_large")
        assert lookup.add(data, "file:///lake/large.jpg").outcome == Outcome.REJECTED
        assert lookup.index.n_added == 0


def test_a_look_up_that_nobody_waits_for_ends_and_a_closed_one_says_so(looked_up_tables: Path, tmp_path: Path) -> None:
    with Lookup.open(looked_up_tables, options(tmp_path)) as lookup:
        with pytest.raises(TimeoutError):
            lookup.lookup([lookups.jpeg(lookups.photo("moon.png"))] * 3, ends_at=time.monotonic() - 1)
        lookup.lookup(lookups.jpeg(lookups.photo("moon.png")))
    for n in (1, 2):
        with pytest.raises(DedupError):
            lookup.lookup([lookups.jpeg(lookups.photo("coins.png"))] * n)


def test_what_was_forgotten_leaves_what_look_ups_keep(tmp_path: Path) -> None:
    root, new, kept = tmp_path / "tables", lookups.jpeg(lookups.photo("moon.png")), lookups.photo("coins.png")
    lookups.finish_run(root, images_of_lake())
    with Lookup.open(root, options(tmp_path)) as lookup:
        lookup.add(new, "file:///lake/forgotten é.jpg")
        lookup.add(lookups.jpeg(kept), "file:///lake/kept.jpg")
        lookups.forget(root, ["file:///lake/forgotten é.jpg", ROCKET])
        assert lookup.reload()
        assert uris(lookup.lookup(new)) == uris(lookup.lookup(images_of_lake()[ROCKET])) == []
        assert uris(lookup.lookup(lookups.jpeg(kept))) == ["file:///lake/kept.jpg"]
        with pytest.raises(ConfigError, match="forgotten"):
            lookup.add(new, "file:///lake/forgotten é.jpg")
    held = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and root not in path.parents)
    assert b"kept.jpg" in held
    assert b"forgotten" not in held
    assert ROCKET.encode() not in held


def test_a_folder_that_others_may_write_is_not_used(looked_up_tables: Path, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "dedup_spark").mkdir()
    (tmp_path / "state" / "dedup_spark").chmod(0o777)
    with pytest.raises(ConfigError, match="this user alone"):
        Lookup.open(looked_up_tables, options(tmp_path))


def test_the_state_of_the_index_waits_for_nobody(opened: Lookup) -> None:
    """The event loop of the service asks for it, while another process may hold the log."""
    with opened._adding:
        assert opened.index.run_id == "r1"


def test_one_of_many_is_near_where_a_pair_is(opened: Lookup) -> None:
    library = opened._state.searcher.library
    rows = np.arange(6)
    near = [[library.are_near(rows[[a]], rows[[b]])[0] for b in rows] for a in rows]
    assert library.are_near(rows, rows[2:4]).tolist() == [row[2] or row[3] for row in near]
    assert [near[a][a] for a in rows] == [True] * 6
    assert not near[0][2]


def test_the_command_lists_images_and_hashes_and_looks_nothing_up_meanwhile(
    looked_up_tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logo = tmp_path / "logo.jpg"
    logo.write_bytes(images_of_lake()[CAT])
    place = ["--tables", str(looked_up_tables), "--cache", str(tmp_path / "cache"), "--state", str(tmp_path / "state")]
    hashes = [f"content_hash={'ab' * 32}", f"phash={'0f' * 8}", f"phash={'f0' * 8}"]
    of_hashes = [word for one in hashes for word in ("--hash", one)]
    assert main(["lookup", *place, "--never-match", "a logo", str(logo), *of_hashes]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{what}: matches nothing from now on" for what in (*hashes, logo)]
    assert main(["lookup", *place, "--json", str(logo)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["outcome"], answer["reason"], answer["copies"]) == ("never_match", "a logo", [])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--hash", f"phash={'0' * 16}", "a.jpg"], "--hash: only with --never-match REASON"),
        (["--never-match", "x", "--hash", "md5=00"], "--hash md5=00: expected one of content_hash, pixel_hash, phash"),
        (["--never-match", "x", "--hash", "phash=zz"], "expected one of content_hash, pixel_hash, phash in hex"),
        (["--never-match", "x"], "lookup: expected the path or URI of an image"),
        ([], "lookup: expected the path or URI of an image"),
    ],
)
def test_what_the_command_cannot_list_is_said_in_a_sentence(
    looked_up_tables: Path, tmp_path: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--tables", str(looked_up_tables), "--cache", str(tmp_path / "cache"), "--state", str(tmp_path / "state")]
    assert main(["lookup", *place, *words]) == 2
    assert told in capsys.readouterr().err


def test_a_file_that_cannot_be_read_is_not_listed(
    looked_up_tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--tables", str(looked_up_tables), "--cache", str(tmp_path / "cache"), "--state", str(tmp_path / "state")]
    assert main(["lookup", *place, "--never-match", "x", str(tmp_path / "nowhere.jpg")]) == 1
    assert "nowhere.jpg: missing" in capsys.readouterr().err
    assert not [*(tmp_path / "state").rglob("never_match.jsonl")]
