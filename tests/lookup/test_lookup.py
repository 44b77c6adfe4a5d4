"""What look-ups answer, over tables of a few photos: by bytes, by pixels, by likeness; and what they answer not."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import lookups
import pytest
from PIL import Image

from dedup_spark.errors import ConfigError
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
