from __future__ import annotations

from workbench.review.queues import Queue, Queues
from workbench.review.store import ReviewStore


def test_what_is_given_out_can_be_taken_back_and_is_in_the_trail(store: ReviewStore) -> None:
    queues = Queues(store.database)
    pairs = [("p1", "e1"), ("p1", "e2"), ("p2", "e3"), ("p2", "e3")]
    assert queues.assign("run-1", pairs, "Dr A", by="Chief") == 3
    assert queues.assign("run-1", pairs[:2], "Dr A", by="Chief") == 0
    assert queues.assign("run-1", pairs[:1], "Dr A", by="Chief", protocol="blinded") == 1
    assert queues.assign("run-1", pairs[:1], "Dr B", by="Chief") == 1
    assert queues.take_back("run-1", [("p1", "e2"), ("p9", "e9")], "Dr A", by="Chief") == 1
    given = [(one.exam_id, one.reader, one.protocol) for one in queues.assigned("run-1")]
    assert given == [
        ("e1", "Dr A", "assisted"),
        ("e3", "Dr A", "assisted"),
        ("e1", "Dr A", "blinded"),
        ("e1", "Dr B", "assisted"),
    ]
    (of_b,) = queues.assigned("run-1", "Dr B")
    assert (of_b.by, of_b.patient_id) == ("Chief", "p1")
    assert queues.assigned("run-2") == []
    assert queues.assign("run-1", [("p1", "e2")], "Dr A", by="Chief") == 1
    assert store.verify().first_bad is None


def test_a_filter_is_kept_under_its_owners_name(store: ReviewStore) -> None:
    queues = Queues(store.database)
    queues.keep("Dr A", "Mine", {"grades": [3, 4]})
    queues.keep("Dr A", "Mine", {"grades": [4]})
    queues.keep("Dr B", "Mine", {"referred": True}, shared=True)
    queues.keep("Dr B", "Private", {})
    assert queues.kept("Dr A") == [
        Queue("Dr A", "Mine", {"grades": [4]}, False),
        Queue("Dr B", "Mine", {"referred": True}, True),
    ]
    queues.forget("Dr A", "Mine")
    queues.forget("Dr A", "Mine")
    assert [one.owner for one in queues.kept("Dr A")] == ["Dr B"]
