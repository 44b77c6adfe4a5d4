"""Answers as texts for the terminal, and as lines of JSON."""

from __future__ import annotations

import json

from dedup_spark.lookup.answers import Answer, Found, Outcome, as_plain


def answer_json(path: str, answer: Answer) -> str:
    """One line."""
    return json.dumps({"path": path, **as_plain(answer)}, ensure_ascii=False)


def describe_answer(path: str, answer: Answer) -> str:
    """What one image shows: a line, and two for each image that it was found to be a copy of, or was compared with."""
    lines = [f"{path}: {_summary(answer)}"]
    lines += [line for found in answer.copies for line in _lines(found)]
    if answer.others:
        lines.append("  no copies of it are")
        lines += [line for found in answer.others for line in _lines(found)]
    return "\n".join(lines)


def _summary(answer: Answer) -> str:
    if answer.outcome == Outcome.REJECTED:
        return f"rejected as {answer.reason}: {answer.message}"
    if answer.outcome == Outcome.NEVER_MATCH:
        return f"matches nothing, as it is on the negative list{f': {answer.reason}' if answer.reason else ''}"
    n = len(answer.copies)
    found = "no copy in the lake" if not n else f"a copy of {n:,} image{'' if n == 1 else 's'}"
    doubt = f"; of {answer.n_undecided} in doubt the thumbnails were not compared" if answer.n_undecided else ""
    doubt += f"; {answer.n_left_out:,} more are likely copies, too" if answer.n_left_out else ""
    return f"{found} of {answer.index.n_images + answer.index.n_added:,}{doubt} (run {answer.index.run_id})"


def _lines(found: Found) -> list[str]:
    name = f"{found.uri}#{found.member}" if found.member else found.uri
    relation = f"{found.relation}{f' ({found.edit})' if found.edit else ''}: " if found.relation else ""
    more = f", and {found.n_equal - 1:,} more of these pixels" if found.n_equal > 1 and found.hamming_bits else ""
    kept = " (keeper)" if found.is_keeper else f" (keeper {found.keeper_uri})" if found.keeper_uri else ""
    added = " (added since the run)" if found.is_added else ""
    return [f"  {relation}{name}{kept}{added}{more}", f"    {found.why}"]
