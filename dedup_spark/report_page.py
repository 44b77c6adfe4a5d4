"""The HTML page of a run: plain values in, one self-contained page out; no Spark, no script, no other file."""

from __future__ import annotations

import base64
import html
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dedup_spark.summary import Summary, human_bytes

_STYLE = """
:root { color-scheme: light dark; --line: light-dark(#d8dbe0, #3a3f47); --quiet: light-dark(#5b6370, #a0a8b4);
        --card: light-dark(#f6f7f9, #1f2329); --keep: light-dark(#137a3d, #5cd68b); }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.quiet { color: var(--quiet); } .figures { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0; }
.figure { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .6rem 1rem; }
.figure b { display: block; font-size: 1.4rem; }
table { border-collapse: collapse; width: 100%; } td, th { padding: .3rem .6rem; border-bottom: 1px solid var(--line);
  text-align: left; vertical-align: top; overflow-wrap: anywhere; }
td.n, th.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.cluster { border: 1px solid var(--line); border-radius: 8px; padding: .8rem; margin: 1rem 0; }
.members { display: flex; flex-wrap: wrap; gap: .8rem; } figure { margin: 0; width: 150px; font-size: 12px; }
figure img { width: 150px; height: 110px; object-fit: contain; background: var(--card); border-radius: 4px; }
figure.keeper img { outline: 3px solid var(--keep); } figure.keeper b { color: var(--keep); }
figcaption { overflow-wrap: anywhere; } pre { overflow-x: auto; background: var(--card); padding: 1rem; }
"""


@dataclass(frozen=True)
class Reject:
    reason: str
    message: str
    uri: str


@dataclass(frozen=True)
class Prefix:
    prefix: str
    n_images: int
    n_removable: int
    removable_bytes: int


@dataclass(frozen=True)
class Member:
    cluster_id: int
    cluster_size: int
    uri: str
    is_keeper: bool
    relation: str | None
    similarity: float | None
    reason: str
    size_bytes: int
    width_px: int
    height_px: int
    format: str
    thumbnail: bytes


@dataclass(frozen=True)
class Page:
    """All that the page shows. `members` stand together by cluster, in the order to show."""

    lake: str
    run_id: str
    settings: str
    summary: Summary
    rejects: Sequence[Reject]
    prefixes: Sequence[Prefix]
    members: Sequence[Member]


def render_page(page: Page) -> str:
    """The page as HTML."""
    settings = json.dumps(json.loads(page.settings), indent=2)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Duplicates in {_text(page.lake)}</title><style>{_STYLE}</style></head><body>
<h1>Duplicate images</h1><p class="quiet">{_text(page.lake)}, run {_text(page.run_id)}</p>
{_figures(page.summary)}
<h2>By relation to the keeper</h2>{_relations(page.summary)}
<h2>Where the bytes are</h2>{_prefixes(page.prefixes)}
<h2>Files that gave no image</h2>{_rejects(page.summary, page.rejects)}
<h2>Clusters that would free most</h2>{_clusters(page.members)}
<h2>Settings</h2><details><summary>All settings of this run</summary><pre>{_text(settings)}</pre></details>
</body></html>
"""


def _figures(s: Summary) -> str:
    figures = [
        ("images found", f"{s.n_images:,}"),
        ("read", f"{s.n_read:,}"),
        ("rejected", f"{s.n_rejected:,}"),
        ("clusters", f"{s.n_clusters:,}"),
        ("removable images", f"{s.n_removable:,}"),
        ("removable bytes", human_bytes(s.removable_bytes)),
    ]
    cards = "".join(f'<div class="figure"><b>{value}</b>{name}</div>' for name, value in figures)
    return f'<div class="figures">{cards}</div>'


def _relations(s: Summary) -> str:
    return _table(
        ("relation", "images", "bytes"),
        ((r, f"{n:,}", human_bytes(size)) for r, n, size in s.by_relation),
        numbers={1, 2},
    )


def _prefixes(prefixes: Sequence[Prefix]) -> str:
    if not prefixes:
        return "<p>Nothing to reclaim.</p>"
    rows = ((p.prefix, f"{p.n_images:,}", f"{p.n_removable:,}", human_bytes(p.removable_bytes)) for p in prefixes)
    return _table(("prefix", "images", "removable", "bytes"), rows, numbers={1, 2, 3})


def _rejects(s: Summary, examples: Sequence[Reject]) -> str:
    if not s.rejects:
        return "<p>None: every file was read.</p>"
    counts = dict(s.rejects)
    rows = ((f"{e.reason} ({counts.get(e.reason, 0):,})", e.uri, e.message) for e in examples)
    return _table(("reason (all)", "for example", "because"), rows)


def _clusters(members: Sequence[Member]) -> str:
    if not members:
        return "<p>No duplicates were found.</p>"
    parts = []
    for _, group in itertools.groupby(members, key=lambda m: m.cluster_id):
        shown = list(group)
        more = shown[0].cluster_size - len(shown)
        note = f", {more:,} more not shown" if more else ""
        figures = "".join(_member(m) for m in shown)
        parts.append(
            f'<div class="cluster"><p class="quiet">cluster {shown[0].cluster_id}, '
            f'{shown[0].cluster_size:,} images{note}</p><div class="members">{figures}</div></div>'
        )
    return "".join(parts)


def _member(m: Member) -> str:
    image = base64.b64encode(m.thumbnail).decode("ascii")
    name = m.uri.rsplit("/", 1)[-1]
    label = "kept" if m.is_keeper else (m.relation or "").replace("_", " ")
    cosine = "" if m.is_keeper or m.similarity is None else f" {m.similarity:.2f}"
    facts = f"{m.width_px} x {m.height_px} {m.format}, {human_bytes(m.size_bytes)}"
    return (
        f'<figure{" class=keeper" if m.is_keeper else ""} title="{_text(m.uri)}&#10;{_text(m.reason)}">'
        f'<img src="data:image/jpeg;base64,{image}" alt="{_text(name)}" loading="lazy">'
        f"<figcaption><b>{_text(label)}{cosine}</b><br>{_text(name)}<br>"
        f'<span class="quiet">{_text(facts)}</span></figcaption></figure>'
    )


def _table(
    header: Sequence[str], rows: Iterable[Sequence[str]], numbers: frozenset[int] | set[int] = frozenset()
) -> str:
    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=n' if i in numbers else ''}>{_text(value)}</{tag}>" for i, value in enumerate(row)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table><tr>{cells('th', header)}</tr>{body}</table>"


def _text(value: str) -> str:
    return html.escape(value, quote=True)
