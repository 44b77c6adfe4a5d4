"""Tables as text: what stands where, what is cut, and what cannot break them."""

from __future__ import annotations

from dedup_spark.commands.text_table import aligned, format_table, markdown


def test_text_stands_left_numbers_right_and_nothing_trails() -> None:
    table = format_table(["name", "n", "share"], [["a", 5, 0.25], ["longer", 12345, None], [None, None, 1.0]])
    assert table.splitlines() == [
        "name        n   share",
        "------  -----  ------",
        "a           5  0.2500",
        "longer  12345",
        "               1.0000",
    ]


def test_bytes_are_counted_not_printed_and_long_text_is_cut() -> None:
    table = format_table(["embedding", "uri"], [[bytearray(1024), "x" * 100], [b"", "y" * 101]])
    header, rule, first, second = table.splitlines()
    assert first == "<1024 bytes>  " + "x" * 100
    assert second == "<0 bytes>     " + "y" * 97 + "..."
    assert rule == "-" * 12 + "  " + "-" * 100
    assert header == "embedding     uri"


def test_an_answer_without_rows_is_its_header() -> None:
    assert format_table(["a", "bc"], []).splitlines() == ["a  bc", "-  --"]


def test_a_line_break_in_a_value_does_not_break_the_table() -> None:
    assert len(format_table(["uri"], [["file:///lake/new\nline.jpg"]]).splitlines()) == 3


def test_a_table_without_a_rule_is_its_header_and_its_rows() -> None:
    table = aligned(("step", "hours"), [("index", "1"), ("all", "10")], [False, True], rule=False)
    assert table.splitlines() == ["step   hours", "index      1", "all       10"]


def test_a_bar_in_a_cell_does_not_end_it_in_markdown() -> None:
    assert markdown(("a", "b"), [("x|y", "z")]).splitlines() == ["| a | b |", "| --- | --- |", "| x\\|y | z |"]
