"""The queries of forget over rows made up for it, by DuckDB: whom they find, and what becomes of what stays."""

from __future__ import annotations

from typing import Any

import duckdb
import pyarrow as pa
import pytest

from dedup_spark.columns import Columns
from dedup_spark.commands.forget import queries
from dedup_spark.commands.forget.asked import COLUMNS, Asked
from dedup_spark.store.schema import CLUSTER_HISTORY, CLUSTERS, COMPONENTS, IMAGES, PAIRS, TOMBSTONES

LAKE = "s3://bucket/lake"
Rows = list[dict[str, Any]]
SCHEMAS = {table.name: table.schema for table in (IMAGES, TOMBSTONES, CLUSTERS, COMPONENTS, PAIRS, CLUSTER_HISTORY)} | {
    "asked": Columns(COLUMNS),
    "erased": Columns("image_id bigint"),
    "renamed": Columns("old_id bigint, new_id bigint"),
    "previous": Columns("cluster_id bigint"),
}


def answer(query: str, **rows: Rows) -> Rows:
    connection = duckdb.connect()
    connection.execute("CREATE MACRO startswith(text, start) AS starts_with(text, start)")
    for name, schema in SCHEMAS.items():
        connection.register(name, pa.Table.from_pylist(rows.get(name, []), schema.arrow))
    return connection.sql(queries.written(query, {name: name for name in SCHEMAS})).to_arrow_table().to_pylist()


def ids(*numbers: int) -> Rows:
    return [{"image_id": number} for number in numbers]


def asked(uris: tuple[str, ...] = (), prefixes: tuple[str, ...] = ()) -> Rows:
    return [dict(zip(Columns(COLUMNS).names, row, strict=True)) for row in Asked.of(uris, prefixes).rows()]


def image(image_id: int, name: str, member: str | None = None, location: str | None = None) -> dict[str, Any]:
    return {"image_id": image_id, "uri": f"{LAKE}/{name}", "member": member, "location": location}


IMAGE_ROWS = [
    image(1, "a.jpg"), image(2, "users/42/b.jpg"), image(3, "users/420/c.jpg"), image(4, "x.tar", "d#1.jpg"),
    image(5, "x.tar", "e.jpg"), image(6, "rows.parquet", "row", f"{LAKE}/rows.parquet/part-0"),
    image(7, "odd#name.jpg"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("uris", "prefixes", "found"),
    [
        ([f"{LAKE}/a.jpg"], [], {1}),
        ([f"{LAKE}/a.jp"], [], set()),
        (["s3a://bucket/lake/a.jpg", f"{LAKE}/nothing.jpg"], [], {1}),
        ([f"{LAKE}/x.tar"], [], {4, 5}),
        ([f"{LAKE}/x.tar#e.jpg"], [], {5}),
        ([f"{LAKE}/x.tar#d#1.jpg"], [], {4}),
        ([f"{LAKE}/odd#name.jpg"], [], {7}),
        ([f"{LAKE}/rows.parquet/part-0"], [], {6}),
        ([], [f"{LAKE}/users/42/"], {2, 12}),
        ([], [f"{LAKE}/users/42"], {2, 3, 12}),
        ([], [f"{LAKE}/rows.parquet/"], {6}),
        ([f"{LAKE}/a.jpg"], [f"{LAKE}/a", f"{LAKE}/"], {1, 2, 3, 4, 5, 6, 7, 12, 13}),
    ],
)
def test_images_are_found_by_all_that_knows_addresses(uris: Any, prefixes: Any, found: set[int]) -> None:
    buried, member = image(12, "users/42/gone.jpg"), {"image_id": 13, "uri": f"{LAKE}/z.jpg"}
    known = {
        "images": IMAGE_ROWS,
        "tombstones": [buried],
        "clusters": [member, {"image_id": 1, "uri": f"{LAKE}/a.jpg"}],
    }
    rows = answer(queries.FOUND, asked=asked(uris, prefixes), **known)
    assert len({(row["image_id"], row["position"]) for row in rows}) == len(
        rows
    )  # each once, though two tables know it
    assert {row["image_id"] for row in rows} == found


def test_each_image_says_which_of_the_addresses_asked_for_it() -> None:
    asking = asked([f"{LAKE}/nothing.jpg", f"{LAKE}/x.tar#e.jpg"], [f"{LAKE}/none/", f"{LAKE}/x"])
    rows = answer(queries.FOUND, asked=asking, images=IMAGE_ROWS)
    assert sorted((row["image_id"], row["position"]) for row in rows) == [(4, 3), (5, 1), (5, 3)]


def test_what_had_an_erased_image_as_a_neighbour_is_compared_again() -> None:
    pairs = [{"image_id_a": a, "image_id_b": b} for a, b in ((1, 2), (2, 3), (3, 4), (0, 2))]
    found = answer(queries.NEIGHBOURS, pairs=pairs, erased=ids(2))
    assert sorted(row["image_id"] for row in found) == [0, 1, 2, 3]


def member(image_id: int, keeper: int, cluster_id: int, **facts: Any) -> dict[str, Any]:
    is_keeper = image_id == keeper
    row = {
        "image_id": image_id, "uri": f"{LAKE}/{image_id}.jpg", "cluster_id": cluster_id, "cluster_size": 3,
        "keeper_image_id": keeper, "is_keeper": is_keeper, "relation": None if is_keeper else "reencoded",
        "similarity": 1.0 if is_keeper else 0.875, "hamming_bits": 0 if is_keeper else 2, "keeper_distance": 0.0 if
        is_keeper else 0.125, "distance_unit": "1 - copy_probability", "bound": 0.75, "is_bridge": False,
        "is_protected": False, "is_reference": False, "is_removable": not is_keeper, "size_bytes": 10,
        "freed_bytes": 0 if is_keeper else 10, "object_version": image_id * 10, "content_hash": f"bytes of {image_id}",
        "etag": f"etag of {image_id}", "keeper_object_version": keeper * 10,
        "keeper_content_hash": f"bytes of {keeper}", "keeper_etag": f"etag of {keeper}", "reason": "because",
        "decided_by": None if is_keeper else "geometry", "copy_probability": 1.0 if is_keeper else 0.875,
        "agreement": 0.5, "contested": 0.25, "n_inliers": 20, "is_direct": True, "versions": "v",
        "removal_tier": None if is_keeper else "reencoded", "edit": None, "differing_share": 0.0,
        "near_image_id": keeper, "near_distance": 0.0 if is_keeper else 0.125, "near_object_version": keeper * 10,
        "near_content_hash": f"bytes of {keeper}",
    }  # fmt: skip
    return dict.fromkeys(CLUSTERS.column_names) | row | facts


def after(rows: Rows, *erased: int, renamed: dict[int, int] | None = None) -> tuple[dict[int, Any], set[int]]:
    """The rows that are written, by id, and the ids of those that go."""
    names = [{"old_id": old, "new_id": new} for old, new in (renamed or {}).items()]
    given = {"clusters": rows, "erased": ids(*erased), "renamed": names}
    stay = answer(queries.CLUSTERS_THAT_STAY, **given)
    gone = [row["image_id"] for row in answer(queries.CLUSTERS_THAT_GO, **given)]
    assert len(gone) == len(set(gone))
    assert not set(gone) & {row["image_id"] for row in stay}
    assert all(list(row) == CLUSTERS.column_names for row in stay)
    return {row["image_id"]: row for row in stay}, set(gone)


FAMILY = [member(n, 1, 50) for n in (1, 2, 3)]
OTHERS = [member(n, 7, 70) for n in (7, 8)]


def test_a_cluster_that_loses_a_copy_keeps_its_id_its_keeper_and_what_is_known() -> None:
    stay, gone = after([*FAMILY, *OTHERS], 3)
    assert gone == {3}
    assert stay == {n: member(n, 1, 50, cluster_size=2, reason=stay[n]["reason"]) for n in (1, 2)}
    assert stay[2]["reason"] == "because"


def test_why_a_keeper_is_kept_no_longer_names_the_copy_that_goes() -> None:
    keeper = member(1, 1, 50, reason="kept: it has more pixels than users42/passport.jpg")
    stay, _ = after([keeper, member(2, 1, 50), member(3, 1, 50)], 3)
    assert stay[1]["reason"].startswith("kept: it came before an image that was forgotten")
    lost_long_ago, _ = after([keeper | {"cluster_id": 9}, member(2, 1, 9)], 9, renamed={9: 999})
    assert lost_long_ago[1]["reason"] == keeper["reason"]  # it names a file that stays


def test_a_cluster_of_two_that_loses_one_is_no_cluster() -> None:
    assert after([*FAMILY, *OTHERS], 8) == ({}, {7, 8})
    assert after([*FAMILY, *OTHERS], 7, 8) == ({}, {7, 8})


def test_a_cluster_that_loses_its_keeper_keeps_its_id_and_proposes_nothing_until_the_next_run() -> None:
    family = [*FAMILY[:2], member(3, 1, 50, keeper_distance=0.0625)]
    stay, gone = after([*family, *OTHERS], 1)
    assert gone == {1}
    assert {row["cluster_id"] for row in stay.values()} == {50}
    assert [(n, row["is_keeper"], row["relation"], row["near_image_id"]) for n, row in sorted(stay.items())] == [
        (2, False, "edited_copy", 2), (3, True, None, 3),
    ]  # fmt: skip
    for row in stay.values():
        assert row["keeper_image_id"] == 3
        assert (row["keeper_object_version"], row["keeper_content_hash"]) == (30, "bytes of 3")
        assert (row["is_removable"], row["freed_bytes"], row["cluster_size"]) == (False, 0, 2)
        assert row["near_distance"] <= row["bound"]
        assert "forgotten" in row["reason"]
    not_compared = ("similarity", "hamming_bits", "keeper_distance", "decided_by", "agreement", "n_inliers")
    assert [stay[2][name] for name in not_compared] == [None] * 6


def of_another(image_id: int, **facts: Any) -> dict[str, Any]:
    """A member of the cluster of image 1 whose own keeper is image 2, which stays."""
    return member(image_id, 2, 50, **facts) | {"is_keeper": False}


STAYS = {"relation": "edited_copy", "removal_tier": "edited_copy", "is_removable": False, "freed_bytes": 0}
MARKED = [
    member(1, 1, 50), member(2, 1, 50, **STAYS), of_another(4),
    of_another(3, relation="same_bytes", removal_tier="same_bytes", keeper_distance=0.0, near_distance=0.0,
               content_hash="bytes of 2"),
]  # fmt: skip
"""Image 2 is marked and stays beside 1; 3 is a byte copy of it and 4 a re-encoding."""


def test_members_whose_own_keeper_stays_keep_it_and_may_go_for_it() -> None:
    stay, _ = after(MARKED, 1)
    assert [n for n, row in stay.items() if row["is_keeper"]] == [2]  # the nearest to the keeper that goes
    assert (stay[2]["keeper_image_id"], stay[2]["relation"], stay[2]["n_inliers"]) == (2, None, None)
    for n in (3, 4):
        before = next(row for row in MARKED if row["image_id"] == n)
        assert stay[n] == before | {"cluster_size": 3}


def test_members_whose_own_keeper_goes_stay_beside_that_of_the_cluster() -> None:
    stay, gone = after(MARKED, 2)
    assert gone == {2}
    assert stay[1]["is_keeper"]
    for n in (3, 4):
        assert (stay[n]["keeper_image_id"], stay[n]["relation"], stay[n]["is_removable"]) == (1, "edited_copy", False)
        assert stay[n]["n_inliers"] is None


def test_where_both_keepers_go_nothing_may() -> None:
    stay, _ = after(MARKED, 1, 2)
    assert [n for n, row in stay.items() if row["is_keeper"]] == [3]
    assert not any(row["is_removable"] for row in stay.values())
    assert stay[4]["keeper_image_id"] == 3


def test_a_byte_copy_of_the_new_keeper_is_known_as_such() -> None:
    family = [member(1, 1, 50), member(2, 1, 50, content_hash="equal"), member(3, 1, 50, content_hash="equal")]
    stay, _ = after(family, 1)
    copy = stay[3]
    assert (stay[2]["is_keeper"], copy["relation"], copy["removal_tier"]) == (True, "same_bytes", "same_bytes")
    assert (copy["near_image_id"], copy["near_content_hash"], copy["keeper_distance"]) == (2, "equal", 0.0)
    assert not copy["is_removable"]


@pytest.mark.parametrize("mark", ["is_protected", "is_reference"])
def test_a_protected_member_takes_the_place_of_the_keeper_first(mark: str) -> None:
    stay, _ = after([member(1, 1, 50), member(2, 1, 50, keeper_distance=0.01), member(3, 1, 50, **{mark: True})], 1)
    assert stay[3]["is_keeper"]


def test_a_member_whose_supporting_image_goes_stands_for_itself_and_stays() -> None:
    far = member(
        3, 1, 50, near_image_id=2, near_content_hash="bytes of 2", keeper_distance=0.9, removal_tier="same_bytes"
    )
    stay, gone = after([*FAMILY[:2], far, member(4, 1, 50)], 2)
    assert gone == {2}
    assert (stay[3]["near_image_id"], stay[3]["near_distance"], stay[3]["near_content_hash"]) == (3, 0.0, "bytes of 3")
    assert (stay[3]["is_removable"], stay[3]["removal_tier"], stay[3]["relation"]) == (False, "reencoded", "reencoded")
    assert stay[4] == member(4, 1, 50, cluster_size=3)
    assert stay[1]["reason"].startswith("kept: ")


def test_a_cluster_that_bears_the_id_of_an_erased_image_gets_the_new_one() -> None:
    rows = [member(n, 2, 1, cluster_size=3) for n in (1, 2, 3)]
    stay, _ = after(rows, 1, renamed={1: 999})
    assert {row["cluster_id"] for row in stay.values()} == {999}
    given = {"clusters": rows, "erased": ids(1), "renamed": [{"old_id": 1, "new_id": 999}]}
    before = answer(queries.CLUSTERS_BEFORE, **given)
    assert sorted((row["image_id"], row["cluster_id"]) for row in before) == [(1, 999), (2, 999), (3, 999)]


def test_a_cluster_that_lost_the_image_of_its_id_long_ago_is_renamed_too() -> None:
    rows = [member(n, 2, 1, cluster_size=2) for n in (2, 3)]
    stay, gone = after(rows, 1, renamed={1: 999})
    assert gone == set()
    assert stay == {n: member(n, 2, 999, cluster_size=2) for n in (2, 3)}


def test_clusters_without_an_erased_image_are_not_touched() -> None:
    assert after([*FAMILY, *OTHERS], 999) == ({}, set())


def test_no_erased_id_is_left_in_any_column_whatever_is_erased() -> None:
    rows = [member(n, 1, 1, near_image_id=near, cluster_size=5) for n, near in ((1, 1), (2, 1), (3, 2), (4, 4), (5, 3))]
    for erased in ([1], [2], [3], [1, 2], [1, 3], [2, 3], [4, 5, 1], [2, 4]):
        stay, gone = after(rows, *erased, renamed={1: 999} if 1 in erased else {})
        held = {v for row in stay.values() for k, v in row.items() if k.endswith("_id")}
        assert not held & set(erased)
        assert {*stay, *gone} == {1, 2, 3, 4, 5}
        assert sum(row["is_keeper"] for row in stay.values()) == bool(stay)


def test_ids_of_clusters_are_found_in_the_history_too() -> None:
    found = answer(
        queries.CLUSTER_IDS, erased=ids(1, 2, 3, 4), clusters=[member(9, 9, 1)],
        cluster_history=[{"clusters_version": 1, "cluster_id": 2}], previous=[{"cluster_id": 3}],
    )  # fmt: skip
    assert sorted(row["image_id"] for row in found) == [1, 2, 3]


def component(image_id: int, component_id: int, first: int | None, group: int) -> dict[str, Any]:
    groups = {"component_id": component_id, "first_group_id": first, "group_id": group}
    return {"image_id": image_id, "raised_to": 0.5} | groups


def test_components_get_the_smallest_ids_of_those_that_stay() -> None:
    rows = [
        component(1, 1, 1, 1), component(2, 1, 1, 1), component(3, 1, 1, 3), component(4, 1, 4, 4),
        component(5, 5, None, 5), component(6, 5, None, 5), component(7, 5, None, 5),
        component(8, 8, 8, 8), component(9, 8, 8, 8), component(10, 10, 10, 10), component(11, 10, 10, 10),
    ]  # fmt: skip
    given = {"components": rows, "erased": ids(1, 5, 9)}
    stay = sorted(answer(queries.COMPONENTS_THAT_STAY, **given), key=lambda row: row["image_id"])
    assert stay == [
        component(2, 2, 2, 2), component(3, 2, 2, 3), component(4, 2, 4, 4),
        component(6, 6, None, 6), component(7, 6, None, 6),
    ]  # fmt: skip
    assert sorted(row["image_id"] for row in answer(queries.COMPONENTS_THAT_GO, **given)) == [1, 5, 8, 9]
