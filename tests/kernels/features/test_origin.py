"""What files tell of their origin: originals, exports, second JPEGs, enlarged and framed copies."""

from __future__ import annotations

import io
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from dedup_spark.commands.demo_lake import load_sample_photo
from dedup_spark.kernels import edits
from dedup_spark.kernels.decoding.images import decode_image
from dedup_spark.kernels.decoding.rendering import render
from dedup_spark.kernels.features import samples
from dedup_spark.kernels.features.borders import inside_borders
from dedup_spark.kernels.features.origin import OriginFacts, origin_facts

PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "china.jpg")


def photo(name: str = "coffee.png") -> Image.Image:
    """Reduced, so that no JPEG's grid is left in it."""
    return edits.scaled(load_sample_photo(name).convert("RGB"), 0.7)


def facts(data: bytes) -> OriginFacts:
    image = decode_image(data, max_pixels=10**8, min_side_px=8)
    return origin_facts(data, image, render(image, 256))


def jpeg(image: Image.Image, quality: int, **options: Any) -> bytes:
    return edits.encoded(image, "JPEG", quality=quality, **options)


def decoded(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


@pytest.mark.parametrize("quality", [30, 50, 75, 90, 95])
def test_the_quality_of_a_jpeg_is_that_of_its_tables(quality: int) -> None:
    assert facts(jpeg(photo(), quality)).jpeg_quality == pytest.approx(quality, abs=1)


@pytest.mark.parametrize(("subsampling", "expected"), [(0, "4:4:4"), (1, "4:2:2"), (2, "4:2:0")])
def test_chroma_subsampling_is_read_from_the_frame(subsampling: int, expected: str) -> None:
    assert facts(jpeg(photo(), 80, subsampling=subsampling)).chroma_subsampling == expected


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("quality", [60, 80, 92])
def test_a_first_jpeg_and_a_lossless_original_carry_no_traces(name: str, quality: int) -> None:
    assert facts(jpeg(photo(name), quality)).earlier_jpeg_quality is None
    assert facts(edits.encoded(photo(name), "PNG")).earlier_jpeg_quality is None


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize(("first", "second"), [(60, 80), (75, 90), (80, 95), (90, 97)])
def test_a_second_jpeg_of_higher_quality_tells_of_the_first(name: str, first: int, second: int) -> None:
    found = facts(jpeg(decoded(jpeg(photo(name), first)), second)).earlier_jpeg_quality
    assert found == pytest.approx(first, abs=13)


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True}), ("BMP", {})], ids=str
)
def test_a_lossless_export_tells_of_its_jpeg(name: str, kind: str, options: dict[str, Any]) -> None:
    export = facts(edits.encoded(decoded(jpeg(photo(name), 85)), kind, **options))
    assert export.is_lossless
    assert export.jpeg_quality is None
    assert export.earlier_jpeg_quality == pytest.approx(85, abs=4)


@pytest.mark.parametrize("edit", [lambda p: p.crop((13, 5, p.width, p.height)), ImageOps.mirror, ImageOps.flip])
def test_an_export_tells_of_its_jpeg_wherever_the_grid_begins(edit: Any) -> None:
    assert facts(edits.encoded(edit(decoded(jpeg(photo(), 80))), "PNG")).earlier_jpeg_quality is not None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_jpeg_is_measured_on_its_own_grid(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    odd = photo().crop((0, 0, 301, 203))
    twice = jpeg(decoded(jpeg(odd, 70)), 92, exif=exif)
    assert facts(twice).earlier_jpeg_quality == pytest.approx(70, abs=6)
    stored = decoded(twice)
    upright = decode_image(twice, max_pixels=10**8, min_side_px=8).pixels
    sample = samples.stored_middle(upright, orientation, 128)
    assert np.array_equal(np.asarray(sample), np.asarray(stored.crop((80, 32, 208, 160))))


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("resample", [Image.Resampling.BICUBIC, Image.Resampling.LANCZOS])
def test_an_enlarged_picture_holds_detail_at_a_part_of_its_size(name: str, resample: Image.Resampling) -> None:
    sharp = photo(name)
    assert facts(jpeg(sharp, 90)).detail_share > 0.75
    assert facts(jpeg(sharp.resize((2 * sharp.width, 2 * sharp.height), resample), 90)).detail_share < 0.75


BORDERS = {
    "framed": lambda p: ImageOps.expand(p, 20, "navy"),
    "letter-boxed": lambda p: ImageOps.pad(p, (p.width, p.width), color="black"),
    "captioned": lambda p: edits.captioned(p, "nobody:\nabsolutely nobody:"),
    "screenshot": lambda p: edits.screenshot(p, 0, 5),
}


@pytest.mark.parametrize("kind", BORDERS)
@pytest.mark.parametrize("name", ["astronaut.png", "chelsea.png", "coffee.png"])
def test_what_was_added_around_a_picture_is_measured(kind: str, name: str) -> None:
    plain, changed = photo(name), BORDERS[kind](photo(name))
    expected = 1 - plain.width * plain.height / (changed.width * changed.height)
    assert facts(jpeg(plain, 90)).added_share == 0
    assert facts(jpeg(changed, 85)).added_share == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize("degrees", [5, 25, 45, -12])
@pytest.mark.parametrize("colour", ["black", "white"])
def test_the_corners_beside_a_turned_picture_are_added(degrees: int, colour: str) -> None:
    plain = photo("chelsea.png")
    turned = plain.rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=colour)
    expected = 1 - plain.width * plain.height / (turned.width * turned.height)
    assert facts(jpeg(turned, 88)).added_share == pytest.approx(expected, abs=0.08)


def test_a_round_picture_has_no_triangles_in_its_corners() -> None:
    disc = Image.new("L", (300, 300), 0)
    disc.paste(photo().convert("L").resize((300, 300)), (0, 0), Image.radial_gradient("L").resize((300, 300)).point(
        lambda v: 255 * (v < 180)))  # fmt: skip
    assert inside_borders(np.asarray(disc)).added_share == 0


def test_white_ground_around_a_thing_is_no_border() -> None:
    ground = Image.new("L", (300, 300), 255)
    disc = Image.radial_gradient("L").resize((100, 100)).point(lambda v: 255 * (v < 128))
    ground.paste(photo().convert("L").resize((100, 100)), (100, 100), disc)
    assert inside_borders(np.asarray(ground)).added_share == 0


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16", "F"])
@pytest.mark.parametrize("size", [(8, 8), (9, 700), (64, 64), (300, 200)])
def test_facts_of_every_mode_and_size_are_computed(mode: str, size: tuple[int, int]) -> None:
    grey = photo().resize(size).convert("L")
    image = grey.convert("I").convert(mode) if mode in ("I;16", "F") else grey.convert(mode)
    made = asdict(facts(edits.encoded(image, "TIFF")))
    assert 0 <= made["detail_share"] <= 1
    assert 0 <= made["added_share"] <= 1
