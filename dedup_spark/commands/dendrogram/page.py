"""The page of a tree: the drawing, its groups, and how precision and recall move with the cut. No Spark, no script."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

import dedup_spark
from dedup_spark.commands.dendrogram.curves import Curve, Point
from dedup_spark.commands.dendrogram.drawing import to_svg
from dedup_spark.commands.dendrogram.texts import describe_cut, describe_part, to_json, to_newick, what_becomes
from dedup_spark.commands.dendrogram.tree import Dendrogram
from dedup_spark.errors import ConfigError
from dedup_spark.store import files

_WIDTH_PX, _HEIGHT_PX, _MARGIN_PX = 640, 220, 36


def to_html(found: Dendrogram) -> str:
    """One self-contained document; its size is that of the drawing and some 10 KB a curve."""
    return _template().render(
        found=found,
        drawing=Markup(to_svg(found)),  # escaped there
        groups=found.groups,
        version=dedup_spark.__version__,
    )


WRITERS: dict[str, Callable[[Dendrogram], str]] = {
    ".html": to_html,
    ".svg": to_svg,
    ".json": to_json,
    ".nwk": to_newick,
}
"""By the suffix of the file."""


def require_kind(out: str) -> str:
    """The suffix of a file that can be written. Raises ConfigError."""
    for suffix in WRITERS:
        if out.endswith(suffix):
            return suffix
    raise ConfigError(f"--out {out}: must end with one of {', '.join(WRITERS)}")


def has_pictures(suffix: str) -> bool:
    """Whether a file of this kind shows thumbnails."""
    return suffix in (".html", ".svg")


def write_dendrogram(found: Dendrogram, out: str) -> None:
    """Write the tree to a file, local or in a store, in the format of its suffix. Raises ConfigError."""
    files.write_atomically(out, WRITERS[require_kind(out)](found).encode("utf-8", "replace"))


@functools.cache
def _template() -> Template:
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(__package__, "."), PackageLoader("dedup_spark.stages.report", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "cut_of": describe_cut,
        "part_of": describe_part,
        "becomes": what_becomes,
        "curve": _curve,
        "number": "{:,}".format,
        "share": lambda value: "unknown" if value is None else f"{value:.4f}",
    }
    return environment.get_template("tree.html.j2")


def _curve(curve: Curve) -> Markup:
    """Precision and recall as two lines over the cuts, which stand at equal distances; numbers alone are put in."""
    points = curve.points
    used = next(i for i, p in enumerate(points) if p.cut == curve.used)
    x = [_MARGIN_PX + i * (_WIDTH_PX - 2 * _MARGIN_PX) / max(1, len(points) - 1) for i in range(len(points))]
    bottom = _HEIGHT_PX - _MARGIN_PX
    parts = [
        f'<path class="used" d="M{x[used]:.1f} {_MARGIN_PX / 2}V{bottom}"/>',
        *(f'<text x="{_MARGIN_PX - 6}" y="{_y(v) + 4:.1f}" text-anchor="end">{v:g}</text>' for v in (0, 0.5, 1)),
        *_labels(x, points, used, bottom + 16),
        _polyline("precision", x, [p.precision for p in points]),
        _polyline("recall", x, [p.recall for p in points]),
    ]
    return Markup(f'<svg class="curve" viewBox="0 0 {_WIDTH_PX} {_HEIGHT_PX}" role="img">{"".join(parts)}</svg>')


def _labels(x: list[float], points: tuple[Point, ...], used: int, y: float) -> Iterable[str]:
    step = max(1, len(points) // 9)
    shown = [i for i in range(0, len(points), step) if abs(i - used) >= step or i == used]
    return (
        f'<text x="{x[i]:.1f}" y="{y}" text-anchor="middle">{points[i].cut:.4g}</text>' for i in sorted({*shown, used})
    )


def _y(share: float) -> float:
    return _MARGIN_PX / 2 + (1 - share) * (_HEIGHT_PX - 1.5 * _MARGIN_PX)


def _polyline(name: str, x: list[float], shares: list[float | None]) -> str:
    known = " ".join(f"{at:.1f},{_y(share):.1f}" for at, share in zip(x, shares, strict=True) if share is not None)
    return f'<polyline class="{name}" points="{known}"/>'
