"""What most of a group show: a mark that one member has, and a border that was added to one, or was always there."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageOps

from dedup_spark.commands.demo_lake import load_sample_photo
from dedup_spark.kernels import edits
from dedup_spark.kernels.clusters import consensus
from dedup_spark.kernels.comparing import bars, layout
from dedup_spark.kernels.features.borders import inside_borders

Photo = Image.Image


def photo(name: str = "coffee.png", side_px: int = 600) -> Photo:
    image = Image.fromarray(np.asarray(load_sample_photo(name).convert("RGB")))
    image.thumbnail((side_px, side_px))
    return image


def compressed(image: Photo, quality: int) -> Photo:
    return Image.open(io.BytesIO(edits.encoded(image, "JPEG", quality=quality))).convert("RGB")


def compared(*images: Photo | None, has_profile: list[bool] | None = None) -> list[tuple[bool, bool]]:
    """(differs, has an added border) of each; None stands for a picture without a thumbnail."""
    pictures = [image or Image.new("RGB", (60, 40)) for image in images]
    thumbnails = [edits.encoded(ImageOps.contain(image, (256, 256)), "JPEG", quality=80) for image in pictures]
    layouts = [layout.describe(jpeg) for jpeg in thumbnails]
    within = [consensus.describe_within(jpeg) or (bytes(consensus.SIDE**2), float("nan")) for jpeg in thumbnails]
    inside = [inside_borders(np.asarray(image.getchannel("G"))) for image in pictures]
    found = consensus.compare_with_most(
        consensus.Members(
            layouts=np.stack([np.frombuffer(levels, np.uint8) for levels, _ in layouts]),
            shorter_px=np.array([px if image else 0 for (_, px), image in zip(layouts, images, strict=True)], np.int64),
            ratio=np.array([image.width / image.height for image in pictures]),
            added_share=np.array([i.added_share for i in inside]),
            shown_share=np.array([(i.right - i.left) * (i.bottom - i.top) for i in inside]),
            within=np.stack([np.frombuffer(levels, np.uint8) for levels, _ in within]),
            within_ratio=np.array([ratio for _, ratio in within]),
            has_profile=np.array(has_profile or [False] * len(images)),
            lines=[bars.describe(jpeg) if image else None for jpeg, image in zip(thumbnails, images, strict=True)],
        )
    )
    return list(zip(found.differs.tolist(), found.has_added_border.tolist(), strict=True))


def framed(image: Photo) -> Photo:
    return ImageOps.expand(image, 20, "white")


def letter_boxed(image: Photo) -> Photo:
    return ImageOps.pad(image, (image.width, image.width), color="black")


def meme(image: Photo) -> Photo:
    return edits.captioned(image, "mood")


@pytest.mark.parametrize("name", ["coffee.png", "chelsea.png", "rocket.jpg"])
def test_a_mark_that_one_member_has_is_told_from_what_most_show(name: str) -> None:
    original = photo(name)
    marked = edits.watermarked(original, "SAMPLE", 0.5, 160)
    found = compared(original, marked, compressed(original, 40), edits.scaled(original, 0.5))
    assert [differs for differs, _ in found] == [False, True, False, False]


def test_of_several_marks_each_is_told_while_fewer_than_half_have_one_at_the_same_place() -> None:
    original = photo()
    marks = [edits.stickered(original, [(x, 0.5, 0.25, (250, 220, 40))]) for x in (0.25, 0.5, 0.75)]
    found = compared(original, *marks, compressed(original, 60), edits.scaled(original, 0.5))
    assert [differs for differs, _ in found] == [False, True, True, True, False, False]


def test_of_two_members_neither_is_called_the_marked_one() -> None:
    original = photo()
    assert compared(original, edits.watermarked(original, "SAMPLE", 0.5, 160)) == [(False, False)] * 2


@pytest.mark.parametrize("add", [framed, letter_boxed, meme], ids=lambda add: add.__name__)
def test_a_border_is_added_where_a_member_shows_what_lies_within_it(add: Callable[[Photo], Photo]) -> None:
    original = photo()
    assert [added for _, added in compared(original, add(original))] == [False, True]
    assert [added for _, added in compared(edits.scaled(original, 0.6), add(original))] == [False, True]


def test_a_border_that_most_members_have_is_the_pictures_own() -> None:
    """A crop happens to show about what lies within it, as people cut off plain margins."""
    original = framed(photo())
    copies = [compressed(original, 70), edits.scaled(original, 0.5), edits.scaled(original, 0.8)]
    assert not any(added for _, added in compared(original, *copies, photo()))


def test_a_small_border_that_no_member_lacks_was_not_added() -> None:
    original = framed(photo())
    assert compared(original, edits.scaled(original, 0.5)) == [(False, False)] * 2


def test_members_without_a_thumbnail_are_compared_with_nothing() -> None:
    original = photo()
    assert compared(original, None, None, compressed(original, 60)) == [(False, False)] * 4


def test_other_shapes_and_plain_pictures_are_no_frame_of_most() -> None:
    original, plain = photo(), Image.new("RGB", (600, 400), "grey")
    crops = [edits.cropped(original, left, 0.1, 0.6) for left in (0.0, 0.2, 0.4)]
    assert not any(differs for differs, _ in compared(original, *crops, plain, plain, plain))
    assert compared(*[Image.new("RGB", (n, n)) for n in (40, 50, 60)]) == [(False, False)] * 3


def test_an_empty_group_has_no_members() -> None:
    nothing = np.zeros(0)
    found = consensus.compare_with_most(
        consensus.Members(
            np.zeros((0, layout.N_BYTES), np.uint8), np.zeros(0, np.int64), nothing, nothing, nothing,
            np.zeros((0, consensus.SIDE**2), np.uint8), nothing, np.zeros(0, bool), [],
        )
    )  # fmt: skip
    assert found.differs.shape == found.has_added_border.shape == (0,)


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="decoded"):
        consensus.describe_within(b"\xff\xd8no image")


def test_an_original_shown_by_its_colour_profile_is_no_marked_copy() -> None:
    """As a profile of larger primaries and another curve shows it; the copies have lost it."""
    matrix = (1.3, -0.25, -0.05, 0, -0.08, 1.1, -0.02, 0, -0.02, -0.08, 1.1, 0)
    curve = [round(255 * (v / 255) ** 1.5) for v in range(256)]
    shown = photo("astronaut.png").convert("RGB", matrix).point(curve * 3)
    copies = [compressed(photo("astronaut.png"), q) for q in (50, 70, 85)]
    assert [d for d, _ in compared(shown, *copies)] == [True, False, False, False]
    assert [d for d, _ in compared(shown, *copies, has_profile=[True, False, False, False])] == [False] * 4
    marked = edits.watermarked(shown, "SAMPLE", 0.5, 200)
    assert [d for d, _ in compared(marked, *copies, has_profile=[True, False, False, False])] == [True] + 3 * [False]


def test_an_edge_that_copies_show_too_is_not_added() -> None:
    """Compression hides the line along the edge of an original from the measure of its copies."""
    plain = photo()
    lined = plain.copy()
    lined.paste("white", (0, 0, plain.width, 6))
    softer = compressed(lined, 40)
    softer.paste(Image.fromarray(np.random.default_rng(3).integers(236, 256, (6, plain.width, 3), np.uint8)), (0, 0))
    (_, lined_is_bordered), (_, softer_is) = compared(lined, softer)
    assert not lined_is_bordered
    assert not softer_is
    assert compared(framed(plain), plain)[0][1]
