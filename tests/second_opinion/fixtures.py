"""The files of `odd_files` as cases: what they show is tested where they are made, so only other decoders are asked."""

from __future__ import annotations

from collections.abc import Iterator

from odd_files import odd_files

from second_opinion.cases import Case


def all_fixtures() -> Iterator[Case]:
    for file in odd_files():
        has_profile, is_turned = "profile" in file.name, file.orientation != 1 or "tag only" in file.name
        yield Case(f"fixture {file.name}", file.data, None, file.n_frames, has_profile=has_profile, is_turned=is_turned)
