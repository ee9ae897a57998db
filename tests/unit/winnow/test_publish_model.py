"""Random sequences of runs, some at once, some late, held against a dictionary."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.winnow.publications import DELETED, FAILS, SKIPPED, Publication, numbered
from winnow.publish.documents import Format, Mode, MoveKind
from winnow.publish.operating import Operator
from winnow.publish.writing import PartLimits

IDS = "abcdefg"
OUTCOMES = st.one_of(st.integers(0, 3), st.sampled_from([FAILS, SKIPPED, DELETED]))
# A run in which every record fails has no successes, and so never comes to BuildVersion.
RECORDS = st.dictionaries(st.sampled_from(IDS), OUTCOMES).map(lambda records: {**records, "always": 1})


@dataclass
class Model:
    """What consumers should see: per id the value (None where it was deleted), and the day on which its run began."""

    rows: dict[str, tuple[Any, str]] = field(default_factory=dict)
    began: str = ""
    """Day of the run that made the current version."""
    published: list[tuple[str, dict[str, tuple[Any, str]]]] = field(default_factory=list)
    """What was current before, for rollbacks."""

    def publish(self, mode: Mode, day: str, records: dict[str, Any]) -> bool:
        if mode is Mode.REPLACE and self.began > day:
            return False
        self.published.append((self.began, self.rows))
        rows = dict(self.rows) if mode is Mode.MERGE else {}
        for each, outcome in records.items():
            if outcome in (FAILS, SKIPPED) or (each in rows and rows[each][1] > day):
                continue
            rows[each] = (None if outcome == DELETED else outcome, day)
        self.rows, self.began = rows, day
        return True

    def roll_back(self) -> None:
        self.began, self.rows = self.published.pop()

    @property
    def seen(self) -> dict[str, Any]:
        return {each: value for each, (value, _) in sorted(self.rows.items()) if value is not None}


@settings(max_examples=120, deadline=None)
@given(
    mode=st.sampled_from(Mode),
    form=st.sampled_from(Format),
    days=st.permutations([f"{day:02d}" for day in range(1, 6)]),
    runs=st.lists(RECORDS, min_size=5, max_size=5),
    steps=st.lists(st.sampled_from(["start", "finish", "finish another", "roll back"]), max_size=14),
)
def test_what_is_published_is_what_a_dictionary_says(
    mode: Mode, form: Format, days: list[str], runs: list[dict[str, Any]], steps: list[str]
) -> None:
    publication = Publication(mode=mode, form=form, limits=PartLimits(part_rows=3, group_rows=2))
    model = Model()
    coming = list(zip(days, runs, strict=True))
    under_way: list[tuple[str, dict[str, Any], str, int]] = []
    moves: list[str] = []
    for step in [*steps, "finish", "finish", "finish", "finish", "finish"]:
        if step == "start" and coming:
            day, records = coming.pop()
            run_id = publication.run(day, numbered(records))
            under_way.append((day, records, run_id, publication.build(run_id).version))
        elif step.startswith("finish") and under_way:
            day, records, run_id, version = under_way.pop(0 if step == "finish" else -1)
            done = publication.publish(version)
            if done.again:
                done = publication.finish(run_id)
            moved = model.publish(mode, day, records)
            assert (done.version is not None) == moved
            moves += ["publish"] * moved
        elif step == "roll back" and len(model.published) > 1:
            Operator(publication.set, who="ada").rollback(why="a test")
            model.roll_back()
            moves.append("rollback")
        if model.published:
            assert publication.rows() == model.seen
            manifest = publication.set.need_manifest(publication.current.version)
            assert manifest.counts.rows == manifest.rows == len(model.seen)
            assert manifest.rows == sum(file.rows for file in manifest.files)
    told = [move for move in publication.set.history() if move.kind is not MoveKind.PRUNE]
    assert [move.kind.value for move in told] == moves
    for before, after in pairwise(told):
        assert after.before == before.after, "the history is one chain"
