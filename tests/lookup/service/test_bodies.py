"""The budget of bytes that the requests of the service hold together."""

from __future__ import annotations

from dedup_spark.lookup.service.bodies import Bodies


def test_requests_share_what_there_is_and_give_it_back_once() -> None:
    bodies = Bodies(100)
    one, other = bodies.hold(), bodies.hold()
    assert one.take(60)
    assert not other.take(41)
    assert other.take(40)
    assert bodies.held == 100
    one.release()
    one.release()
    assert bodies.held == 40
    assert other.take(60)
