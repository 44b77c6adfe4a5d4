"""The HTML page of the report: plain values in, one self-contained document out. No Spark and no script.

The markup is in page.html.j2 and its style in page.css, files of this package that are read from a folder or from the
zip of spark-submit alike. Jinja2 escapes every value; only `_breakable` makes markup of one, after escaping it.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from dedup_spark.printable import in_hex, isolated
from dedup_spark.stages.report.values import RejectExample, Report, ShownMember, readable_bytes

_MAX_MESSAGE_CHARACTERS = 160
_MEANINGS = {
    "same_bytes": "byte for byte the keeper",
    "same_pixels": "another file that decodes to the same pixels",
    "reencoded": "the keeper's picture, re-encoded or resized, with nothing lost or added",
    "more_detail": "the keeper's picture with more pixels or bits",
    "edited_copy": "the keeper's picture, cropped, marked, toned or otherwise edited",
    "contained": "a part of the keeper's picture, or the other way round",
    "recoloured": "the keeper's picture in another colour",
    "still": "of a film, some frames",
}
"""The relations and removal tiers; each has a colour in page.css."""


def render_page(report: Report) -> str:
    """The whole page. Its size is that of the thumbnails, times 4/3."""
    return _template().render(report=report, meanings=_MEANINGS)


@functools.cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader(__package__, "."),
        autoescape=True,
        undefined=StrictUndefined,  # a name that the template spells wrongly is an error, not an empty text
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "address": _address,
        "base64": lambda data: base64.b64encode(data).decode("ascii"),
        "breakable": _breakable,
        "bytes": readable_bytes,
        "common_folder": _common_folder,
        "facts": _facts,
        "in_a_title": _in_a_title,
        "isolated": isolated,
        "json": json.dumps,
        "hex": in_hex,
        "number": "{:,}".format,
        "percent": "{:.1%}".format,
        "shortened": _shortened,
    }
    return environment.get_template("page.html.j2")


def _facts(member: ShownMember) -> list[str]:
    """What its caption says of a member's file, and of its likeness to the keeper."""
    facts = []
    if member.width_px and member.height_px:
        facts.append(f"{member.width_px:,} × {member.height_px:,} px")
    if member.size_bytes is not None:
        facts.append(readable_bytes(member.size_bytes))
    if not member.is_keeper and member.similarity is not None:
        facts.append(f"cosine {member.similarity:.3f}")
    if not member.is_keeper and member.hamming_bits is not None:
        facts.append(f"pHash differs {member.hamming_bits}/64")
    return facts


def _shortened(message: str) -> str:
    text = message.strip()
    return text if len(text) <= _MAX_MESSAGE_CHARACTERS else text[:_MAX_MESSAGE_CHARACTERS] + "…"


def _breakable(address: str) -> Markup:
    """Escaped text whose lines break after `/` and `_`."""
    return escape(address).replace("/", Markup("/<wbr>")).replace("_", Markup("_<wbr>"))


def _address(image: ShownMember | RejectExample) -> str:
    return image.uri if image.member is None else f"{image.uri} › {image.member}"


def _in_a_title(image: ShownMember) -> str:
    """Its address where no element can isolate the two parts."""
    return " › ".join(isolated(part) for part in (image.uri, image.member) if part is not None)


def _common_folder(members: Sequence[ShownMember]) -> str:
    """The longest common beginning that ends in a slash; empty when it is no more than a scheme and host."""
    addresses = [_address(member) for member in members]
    first, last = min(addresses), max(addresses)
    n_same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    folder = first[: first.rfind("/", 0, n_same) + 1]
    return folder if folder.count("/") > 3 or (folder and "://" not in folder) else ""
