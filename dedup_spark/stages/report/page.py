"""The HTML page of the report: plain values in, one self-contained document out. No Spark, no files, no script.

Everything that comes from a lake is escaped, by `_cell` or `escape`; only `_Markup` passes as it is.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from html import escape

from dedup_spark.stages.report.template import PAGE
from dedup_spark.stages.report.values import (
    PrefixTotal,
    RejectExample,
    Report,
    ShownCluster,
    ShownMember,
    Summary,
    readable_bytes,
)

_MAX_MESSAGE_CHARACTERS = 160
_MEANING = {
    "same_bytes": "byte for byte the keeper",
    "same_pixels": "another file that decodes to the same pixels",
    "edited_copy": "the keeper's picture, re-encoded, resized, cropped or otherwise edited",
}


class _Markup(str):
    """Text that is HTML already."""


def render_page(report: Report) -> str:
    """The whole page. Its size is that of the thumbnails, times 4/3."""
    return PAGE.substitute(
        lake=escape(report.lake),
        tables=escape(report.tables_root),
        run_id=escape(report.run_id),
        version=escape(report.version),
        notice=_notice(report.summary),
        figures=_figures(report.summary),
        relations=_relations(report.summary),
        prefixes=_prefixes(report.prefixes),
        rejects=_rejects(report.summary, report.reject_examples),
        clusters=_clusters(report.clusters, report.summary),
        settings="\n".join(escape(f"{name} = {json.dumps(value)}") for name, value in report.settings.items()),
    )


def _notice(summary: Summary) -> str:
    if summary.n_pending <= 0:
        return ""
    return f'<p class="notice">{summary.n_pending:,} images are listed but not read yet: the run is not complete.</p>'


def _figures(summary: Summary) -> str:
    found = summary.found_bytes
    share = f"{summary.removable_bytes / found:.1%} of the lake" if found else ""
    tiles = (
        ("images found", f"{summary.n_found:,}", readable_bytes(found)),
        ("read", f"{summary.n_read:,}", ""),
        ("rejected", f"{summary.n_rejected:,}", "could not be read"),
        ("distinct pictures", f"{summary.n_distinct:,}", "if all removable images went"),
        ("clusters", f"{summary.n_clusters:,}", f"of {summary.n_members:,} images"),
        ("removable images", f"{summary.n_removable:,}", "a keeper stands for each"),
        ("could be freed", readable_bytes(summary.removable_bytes), share),
    )
    return "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>"
        for name, value, note in tiles
    )


def _relations(summary: Summary) -> str:
    if not summary.relations:
        return "<p>No duplicates were found.</p>"
    rows = [
        (
            _Markup(f"{_badge(r.relation)} <small>{escape(_MEANING.get(r.relation, ''))}</small>"),
            f"{r.n_images:,}",
            readable_bytes(r.size_bytes),
            "yes" if r.removable else "no",
        )
        for r in summary.relations
    ]
    guards = ", ".join(f"{guard} {n:,}" for guard, n in summary.guarded.items())
    note = f"<p>Joined by equal pixels or strict evidence only: {escape(guards)}.</p>" if guards else ""
    return note + _table(
        (("Relation to the keeper", "text"), ("Images", "number"), ("Size", "number"), ("Removable", "text")), rows
    )


def _prefixes(prefixes: Sequence[PrefixTotal]) -> str:
    if not prefixes:
        return "<p>Nothing to remove.</p>"
    many_lakes = len({p.lake for p in prefixes}) > 1
    rows = [
        (
            _path(f"{p.lake}/{p.prefix}" if many_lakes else p.prefix or "(directly in the lake)"),
            f"{p.n_removable:,} of {p.n_images:,}",
            readable_bytes(p.removable_bytes),
            _bar(p.removable_share),
        )
        for p in prefixes
    ]
    return _table((("Folder", "text"), ("Images", "number"), ("Size", "number"), ("Share of its size", "number")), rows)


def _rejects(summary: Summary, examples: Sequence[RejectExample]) -> str:
    if not summary.rejected:
        return "<p>Every image could be read.</p>"
    rows = [
        (reason, f"{n:,}", _Markup("".join(_example(e) for e in examples if e.reason == reason)))
        for reason, n in summary.rejected.items()
    ]
    return _table((("Reason", "text"), ("Images", "number"), ("For example", "text")), rows)


def _example(example: RejectExample) -> str:
    message = (example.message or "").strip()
    if len(message) > _MAX_MESSAGE_CHARACTERS:
        message = message[:_MAX_MESSAGE_CHARACTERS] + "…"
    return f'<p class="example">{_path(_address(example.uri, example.member))}<small>{escape(message)}</small></p>'


def _clusters(clusters: Sequence[ShownCluster], summary: Summary) -> str:
    if not clusters:
        return "<p>No clusters to show.</p>" if summary.n_clusters else "<p>No duplicates were found.</p>"
    shown = f"{len(clusters):,} of {summary.n_clusters:,} clusters"
    intro = f"<p>{shown}, the largest first; in each the keeper, then the members least like it.</p>"
    return intro + "\n".join(_cluster(cluster) for cluster in clusters)


def _cluster(cluster: ShownCluster) -> str:
    addresses = [_address(m.uri, m.member) for m in cluster.members]
    folder = _common_folder(addresses)
    figures = "\n".join(_figure(m, a, a[len(folder) :]) for m, a in zip(cluster.members, addresses, strict=True))
    hidden = cluster.n_images - len(cluster.members)
    more = f"<p><small>and {hidden:,} more members</small></p>" if hidden > 0 else ""
    freed = f"{readable_bytes(cluster.removable_bytes)} could be freed" if cluster.removable_bytes else ""
    place = f" · in {_path(folder)}" if folder else ""
    return (
        f"<article><h3>{cluster.n_images:,} images <span>{escape(freed)}</span></h3>"
        f"<p><small>cluster_id = {cluster.cluster_id}{place}</small></p>"
        f'<div class="row">{figures}</div>{more}</article>'
    )


def _figure(member: ShownMember, address: str, name: str) -> str:
    picture = '<div class="none">no thumbnail</div>'
    if member.thumbnail:
        data = base64.b64encode(member.thumbnail).decode("ascii")
        picture = f'<img alt="" src="data:image/jpeg;base64,{data}">'
    facts = []
    if member.width_px and member.height_px:
        facts.append(f"{member.width_px:,} × {member.height_px:,} px")
    if member.size_bytes is not None:
        facts.append(readable_bytes(member.size_bytes))
    if not member.is_keeper and member.similarity is not None:
        facts.append(f"cosine {member.similarity:.3f}")
    if not member.is_keeper and member.hamming_bits is not None:
        facts.append(f"pHash differs {member.hamming_bits}/64")
    badge = _Markup('<b class="badge keeper">keeper</b>') if member.is_keeper else _badge(member.relation or "")
    return (
        f'<figure{" class=kept" if member.is_keeper else ""} title="{escape(address)}">{picture}<figcaption>{badge}'
        f"<div>{' '.join(f'<span>{escape(fact)}</span>' for fact in facts)}</div>{_path(name)}</figcaption></figure>"
    )


def _badge(relation: str) -> _Markup:
    known = relation if relation in _MEANING else "other"
    return _Markup(f'<b class="badge {known}">{escape(relation.replace("_", " ")) or "unknown"}</b>')


def _bar(share: float | None) -> _Markup:
    if share is None:
        return _Markup("unknown")
    percent = f"{100 * min(max(share, 0.0), 1.0):.1f}%"
    return _Markup(f'<span class="bar"><i style="width:{percent}"></i></span>{percent}')


def _path(text: str) -> _Markup:
    """An address: isolated, so that right-to-left names cannot rearrange the page; lines break after `/` and `_`."""
    breakable = escape(text).replace("/", "/<wbr>").replace("_", "_<wbr>")
    return _Markup(f'<bdi class="path">{breakable}</bdi>')


def _address(uri: str, member: str | None) -> str:
    return uri if member is None else f"{uri} › {member}"


def _common_folder(addresses: Sequence[str]) -> str:
    """The longest common beginning that ends in a slash; empty when it is no more than a scheme and host."""
    first, last = min(addresses), max(addresses)
    n_same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    folder = first[: first.rfind("/", 0, n_same) + 1]
    return folder if folder.count("/") > 3 or (folder and "://" not in folder) else ""


def _table(columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]]) -> str:
    """`columns` are (heading, "text" or "number"); a cell is escaped unless it is _Markup."""

    def line(tag: str, cells: Sequence[str]) -> str:
        kinds = [kind for _, kind in columns]
        return "".join(f'<{tag} class="{kind}">{_cell(c)}</{tag}>' for c, kind in zip(cells, kinds, strict=True))

    head = line("th", [heading for heading, _ in columns])
    body = "\n".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(value: str) -> str:
    return value if isinstance(value, _Markup) else escape(value)
