"""The proof of law 4, from the ledger alone: no stage loses a record, and none is lost between two stages.

At every stage distinct records in = succeeded + skipped + failed, and what a stage is given is what the one before succeeded in.
Nothing is taken from what settlements and results claim: counts are derived again from the batch, the journal's segments and
the lists of outputs and failures, and then compared with the claims. Everything streams; memory grows with the number of
intervals and segments, not with the number of records.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from winnow import keys
from winnow.batch import Repeats
from winnow.contract import Pointer
from winnow.errors import LedgerObjectMissing, WinnowError
from winnow.failures import ordinal_of_line
from winnow.journal import SuccessManifest, fold, read_segments
from winnow.keys import StageKeys
from winnow.plan import BLOCK_IDS, Digest, Plan, ids_of
from winnow.ranges import Ranges, union
from winnow.sequence import Feed
from winnow.settlement import FINAL, Settlement, before_anything, read_settlement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from winnow.ledger import Ledger
    from winnow.source import Run

UNREADABLE = (WinnowError, ValueError, KeyError, TypeError, IndexError, zlib.error)
"""What reading a damaged document raises. Errors of S3 itself pass through: they say nothing about the ledger."""
MAX_NAMED = 3
"""Ids or ordinals named in a problem."""
IDS_AT_ONCE = 100_000
FINGERPRINT_MASK = 2**64 - 1


class Reached(StrEnum):
    """How far a stage got."""

    DONE = "done"
    UNFINISHED = "unfinished"
    NOT_REACHED = "not reached"


@dataclass(frozen=True, slots=True, kw_only=True)
class StageProof:
    """What the ledger proves about one stage, in distinct records."""

    stage: str
    reached: Reached
    verdict: str | None = None
    records_in: int = 0
    succeeded: int = 0
    skipped: int = 0
    failed: int = 0
    """Outstanding at the end; 0 while the stage is unfinished."""
    outstanding: int = 0
    """Not settled finally; 0 when the stage is done."""
    duplicates: int = 0
    outputs: int = 0
    """Lines handed on, which is what the next stage is given."""
    tries: int = 0
    attempts: int = 0
    late: int = 0
    """Records that a zombie worker journaled after its attempt was settled: not counted, and done again or failed."""
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "reached": self.reached.value,
            "verdict": self.verdict,
            "in": self.records_in,
            "succeeded": self.succeeded,
            "skipped": self.skipped,
            "failed": self.failed,
            "outstanding": self.outstanding,
            "duplicates": self.duplicates,
            "outputs": self.outputs,
            "tries": self.tries,
            "attempts": self.attempts,
            "late": self.late,
            "problems": list(self.problems),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the ledger proves about a run."""

    run_id: str
    pipeline: str
    stages: tuple[StageProof, ...]
    problems: tuple[str, ...] = ()
    """Of the run as a whole; each stage has its own."""

    @property
    def holds(self) -> bool:
        """Nothing contradicts law 4. A stage that is still running, or was stopped, contradicts nothing."""
        return not self.all_problems

    @property
    def all_problems(self) -> tuple[str, ...]:
        """Problems of the stages and of the run, each with the stage's name."""
        return (
            *(f"{stage.stage}: {problem}" for stage in self.stages for problem in stage.problems),
            *self.problems,
        )

    @property
    def finished(self) -> bool:
        """Every stage was reached and is done."""
        return all(stage.reached is Reached.DONE for stage in self.stages)

    @property
    def lost(self) -> int:
        """Records that failed, over all stages."""
        return sum(stage.failed for stage in self.stages)

    def to_json(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "pipeline": self.pipeline,
            "holds": self.holds,
            "finished": self.finished,
            "lost": self.lost,
            "stages": [stage.to_json() for stage in self.stages],
            "problems": list(self.problems),
        }


def prove(ledger: Ledger, run_id: str, *, status: str | None = None) -> Proof:
    """Prove that a run's ledger adds up, or say where it does not.

    Args:
        ledger: where the run wrote.
        run_id: the run.
        status: of the pipeline's execution, where known: one that SUCCEEDED must have finished every stage.

    Raises:
        LedgerObjectMissing: the ledger has no such run.
    """
    run = read_run(ledger, run_id)
    proofs: list[StageProof] = []
    given = _Given(pointer=Pointer.from_event(run["records"], "records"))
    for stage in stages_of(run):
        audit = _StageAudit(ledger, StageKeys(run_id, stage))
        proofs.append(audit.prove(given))
        given = audit.leaves
    problems = []
    if status == "SUCCEEDED" and not run.get("stepped_aside"):
        problems = [
            f"the run succeeded, but stage {proof.stage} is {proof.reached}"
            for proof in proofs
            if proof.reached is not Reached.DONE
        ]
    return Proof(run_id=run_id, pipeline=run["pipeline"], stages=tuple(proofs), problems=tuple(problems))


def read_run(ledger: Ledger, run_id: str) -> Mapping[str, Any]:
    """A run's `run.json`. Raises `LedgerObjectMissing` with a line for people."""
    run: Mapping[str, Any] | None = ledger.find_json(keys.run(run_id))
    if run is None:
        raise LedgerObjectMissing(
            f"run {run_id} is not in s3://{ledger.bucket}: check the id, and which environment it ran in"
        )
    return run


def stages_of(run: Mapping[str, Any]) -> list[str]:
    """The stages that a run goes through, in order."""
    stages: list[str] = run["stages"]
    return stages[stages.index(run["start_at"]) :]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """What a stage has to have been given."""

    pointer: Pointer | None = None
    """None where the stage before left nothing, so that this one should not have run."""
    manifest: SuccessManifest | None = None
    """Of the stage before; None for the first stage of a run."""


class _StageAudit:
    """The proof of one stage while it is made."""

    def __init__(self, ledger: Ledger, stage: StageKeys) -> None:
        self._ledger = ledger
        self._keys = stage
        self._problems: list[str] = []
        self._notes: list[str] = []
        self.leaves = _Given()

    def prove(self, given: _Given) -> StageProof:
        try:
            found = self._ledger.find_json(self._keys.plan)
            if found is None:
                return StageProof(stage=self._keys.stage, reached=Reached.NOT_REACHED)
            return self._prove(Plan.from_json(found), given)
        except UNREADABLE as error:
            self._problems.append(f"the ledger cannot be read: {type(error).__name__}: {error}")
            return StageProof(
                stage=self._keys.stage,
                reached=Reached.UNFINISHED,
                problems=tuple(self._problems),
                notes=tuple(self._notes),
            )

    def _prove(self, plan: Plan, given: _Given) -> StageProof:
        self._check_batch(plan)
        self._check_given(plan, given)
        chain = _Chain(self._ledger, plan)
        last = chain.follow()
        self._problems += chain.problems
        outstanding = last.outstanding(plan)
        done = last.verdict in FINAL and last.attempt >= 0
        outputs = 0
        if done:
            self._check_failures(plan, outstanding)
            manifest = self._check_successes(plan, last, chain)
            self._check_result(plan, last, len(outstanding))
            outputs = manifest.lines
            successes = Pointer(bucket=self._ledger.bucket, key=self._keys.successes)
            self.leaves = _Given(pointer=successes, manifest=manifest)
        return StageProof(
            stage=plan.stage,
            reached=Reached.DONE if done else Reached.UNFINISHED,
            verdict=last.verdict.value if done else None,
            records_in=plan.count,
            succeeded=len(last.succeeded),
            skipped=len(last.skipped),
            failed=len(outstanding) if done else 0,
            outstanding=0 if done else len(outstanding),
            duplicates=plan.duplicates,
            outputs=outputs,
            tries=last.try_count + 1,
            attempts=last.attempt + 1,
            late=chain.late,
            problems=tuple(self._problems),
            notes=tuple(self._notes),
        )

    def _expect(self, what: str, claimed: object, proved: object) -> None:
        if claimed != proved:
            self._problems.append(f"{what} says {claimed}, but the evidence says {proved}")

    # The batch: the ids that the digest stands for, each once

    def _check_batch(self, plan: Plan) -> None:
        digest = Digest()
        count = 0
        with Repeats() as repeats:
            for ids in self._blocks(plan):
                digest.add(ids)
                # A row that could not be read has a made-up id, which may be like somebody's real one.
                made_up = plan.rejected.within(count, count + len(ids))
                repeats.add(ids if not made_up else [i for n, i in enumerate(ids, count) if n not in made_up])
                count += len(ids)
            suspects = repeats.found()
        self._expect("the plan's count of distinct records", plan.count, count)
        self._expect("the plan's digest of the batch", plan.digest, digest.hexdigest())
        if suspects:
            self._check_repeats(plan, suspects)

    def _check_repeats(self, plan: Plan, suspects: set[int]) -> None:
        """Two ids may share a hash; the same id twice may not be."""
        seen: set[str] = set()
        repeated: list[str] = []
        for ids in self._blocks(plan):
            for value in ids:
                if hash(value) in suspects:
                    (repeated.append if value in seen else seen.add)(value)
        if repeated:
            self._problems.append(f"{len(repeated)} ids are in the batch more than once: {_named(repeated)}")

    def _blocks(self, plan: Plan) -> Iterator[list[str]]:
        for block in range(-(-plan.count // BLOCK_IDS)):
            yield self._ledger.read_json(self._keys.batch(block))

    # What the stage was given

    def _check_given(self, plan: Plan, given: _Given) -> None:
        """The batch is the source's rows, less what Plan dropped; within a run the source is what the stage before left."""
        pointer, manifest = plan.source.pointer, given.manifest
        if given.pointer is None:
            self._problems.append("it ran, although the stage before is not done")
        elif (pointer.bucket, pointer.key) != (given.pointer.bucket, given.pointer.key):
            self._problems.append(f"it was given {pointer}, not {given.pointer}")
        if manifest is None:
            self._compare_with_source(plan)
            return
        self._expect("the plan's count of records lost before", plan.lost_upstream, manifest.lost_in_run)
        self._expect("the plan's count of duplicates", plan.duplicates, manifest.lines - plan.count)
        self._compare_rows(plan, all_must_be_there=True)

    def _compare_with_source(self, plan: Plan) -> None:
        """Where the source is still there and can be read from here; it is not the ledger's, so it may not be."""
        try:
            self._compare_rows(plan, all_must_be_there=False)
        except Exception as error:  # noqa: BLE001
            why = f"{type(error).__name__}: {error}"
            self._notes.append(
                f"the source could not be read again, so it was not compared with the batch ({why})"
            )

    def _compare_rows(self, plan: Plan, *, all_must_be_there: bool) -> None:
        rows = Feed(plan.source.open(self._ledger.store).ids())
        batch = Feed(self._blocks(plan))
        repetitions = _Members(self._problems, (lambda: self._blocks(plan)) if all_must_be_there else None)
        row = 0
        strangers: list[str] = []
        for run in plan.runs(plan.everything):
            for start in range(row, run.row, IDS_AT_ONCE):
                repetitions.expect(rows.take(min(IDS_AT_ONCE, run.row - start)))
            row = run.row + run.length
            strangers += self._compare_run(plan, rows, batch, run)
        for some in rows.rest():
            strangers += [str(value) for number, value in enumerate(some, row) if number not in plan.dropped]
            repetitions.expect(some)
            row += len(some)
        repetitions.check()
        if strangers:
            self._problems.append(
                f"{len(strangers)} rows of its source are not what the batch has there: {_named(strangers)}"
            )

    @staticmethod
    def _compare_run(plan: Plan, rows: Feed[Any], batch: Feed[str], run: Run) -> list[str]:
        strangers: list[str] = []
        for ordinal in range(run.ordinal, run.ordinal + run.length, IDS_AT_ONCE):
            count = min(IDS_AT_ONCE, run.ordinal + run.length - ordinal)
            given, listed = rows.take(count), batch.take(count)
            if given != listed:
                given += [None] * (len(listed) - len(given))  # ids that were asked for, but no row has
                pairs = enumerate(zip(given, listed, strict=False), ordinal)
                strangers += [
                    str(theirs)
                    for number, (theirs, ours) in pairs
                    if theirs != ours and number not in plan.rejected
                ]
        return strangers

    # What the stage left behind

    def _check_failures(self, plan: Plan, outstanding: Ranges) -> None:
        """The list of failures names exactly the outstanding records, each once, by ordinal and by id."""
        if not outstanding:
            if next(self._ledger.store.keys(self._keys.failures), None):
                self._problems.append("there is a list of failures, but nothing is outstanding")
            return
        lines = fingerprint = 0
        named = Ranges.empty()
        some: list[int] = []
        for line in self._ledger.read_lines(self._keys.failures):
            lines += 1
            some.append(ordinal_of_line(line))
            fingerprint += hash((some[-1], json.loads(line)["record_id"]))
            if len(some) >= IDS_AT_ONCE:
                named, some = named | Ranges.of(some), []
        named = named | Ranges.of(some)
        self._expect("the number of lines in the list of failures", lines, len(outstanding))
        if named != outstanding:
            self._problems.append(
                f"the list of failures leaves out {len(outstanding - named)} outstanding records "
                f"and names {len(named - outstanding)} that are not"
            )
        elif fingerprint & FINGERPRINT_MASK != self._fingerprint(plan, outstanding):
            self._problems.append(
                "the list of failures does not have the ids that the batch has in those places"
            )

    def _fingerprint(self, plan: Plan, ordinals: Ranges) -> int:
        """Of pairs of ordinal and id, in any order."""
        return sum(map(hash, ids_of(self._ledger, plan.keys, ordinals))) & FINGERPRINT_MASK

    def _check_successes(self, plan: Plan, last: Settlement, chain: _Chain) -> SuccessManifest:
        """The manifest lists the settled output segments, which exist and hold lines of succeeded records, each once."""
        manifest = SuccessManifest.from_json(self._ledger.read_json(self._keys.successes))
        self._expect("the successes' count of records", manifest.records, len(last.succeeded))
        self._expect(
            "the successes' count of records lost in the run",
            manifest.lost_in_run,
            plan.lost_upstream + len(last.outstanding(plan)),
        )
        if manifest.entries != tuple(chain.entries):
            self._problems.append("the successes list other output segments than were settled")
        written = frozenset(self._ledger.store.keys(self._keys.attempts))
        covered = Ranges.empty()
        total = 0
        for entry in manifest.entries:
            missing = [key for key in (entry.key, entry.ids_key) if key not in written]
            if missing:
                self._problems.append(f"an output segment is missing: {missing[0]}")
                continue
            ordinals: Sequence[int] = self._ledger.read_json(entry.ids_key)["of"]
            if entry.accept is not None:
                accept = entry.accept
                ordinals = [ordinal for ordinal in ordinals if ordinal in accept]
            self._expect(f"the successes' count of lines in {entry.key}", entry.lines, len(ordinals))
            total += len(ordinals)
            here = Ranges.of(ordinals)
            if here - last.succeeded:
                self._problems.append(
                    f"{entry.key} holds outputs of {len(here - last.succeeded)} records that did not succeed"
                )
            if here & covered:
                self._problems.append(
                    f"{entry.key} holds outputs of {len(here & covered)} records that another segment has, too"
                )
            covered = covered | here
        self._expect("the successes' count of lines", manifest.lines, total)
        return manifest

    def _check_result(self, plan: Plan, last: Settlement, failed: int) -> None:
        result = self._ledger.read_json(self._keys.result)
        proved = {
            "in": plan.count,
            "succeeded": len(last.succeeded),
            "skipped": len(last.skipped),
            "failed": failed,
        }
        proved["duplicates"] = plan.duplicates
        for name, number in proved.items():
            self._expect(f"the result's count {name!r}", result["counts"][name], number)
        self._expect("the result's verdict", result["verdict"], last.verdict.value)
        output = result["output"]
        self._expect("the output's count of successes", output["successes"]["count"], len(last.succeeded))
        self._expect("the output's count of failures", (output["failures"] or {}).get("count", 0), failed)


class _Chain:
    """The settlements of a stage, each compared with what its attempt's journal proves."""

    def __init__(self, ledger: Ledger, plan: Plan) -> None:
        self._ledger = ledger
        self._plan = plan
        self.problems: list[str] = []
        self.entries: list[Any] = []
        self.late = 0

    def follow(self) -> Settlement:
        """The last settlement; the state before the first attempt if there is none."""
        before = before_anything(self._plan)
        while True:
            settlement = read_settlement(self._ledger, self._plan, before.attempt + 1)
            if settlement is None:
                return before
            self._check(settlement, before)
            self.entries += settlement.entries
            before = settlement

    def _check(self, settlement: Settlement, before: Settlement) -> None:
        name = f"attempt {settlement.attempt}"
        order = before.next
        evidence = fold(
            read_segments(self._ledger, self._plan.keys.attempt(settlement.attempt)),
            digest=self._plan.digest,
            order=order,
            ledger=self._ledger,
        )
        succeeded = union(segment.succeeded for segment in evidence.segments) & order
        skipped = union(segment.skipped for segment in evidence.segments) & order
        unproved = (settlement.succeeded - before.succeeded - succeeded) | (
            settlement.skipped - before.skipped - skipped
        )
        if unproved:
            self.problems.append(
                f"{name} claims {len(unproved)} records as done that no journal proves: {unproved.first(MAX_NAMED)}"
            )
        if settlement.succeeded & settlement.skipped:
            self.problems.append(
                f"{name} counts {len(settlement.succeeded & settlement.skipped)} records as succeeded and as skipped"
            )
        forgotten = (before.succeeded - settlement.succeeded) | (before.skipped - settlement.skipped)
        if forgotten:
            self.problems.append(
                f"{name} forgets {len(forgotten)} records that were done before: {forgotten.first(MAX_NAMED)}"
            )
        outside = settlement.next - settlement.outstanding(self._plan)
        if outside:
            self.problems.append(
                f"{name} orders {len(outside)} records again that are done: {outside.first(MAX_NAMED)}"
            )
        if before.verdict in FINAL and before.attempt >= 0:
            self.problems.append(f"{name} was made after attempt {before.attempt} had settled the stage")
        self.late += len((succeeded | skipped) - settlement.succeeded - settlement.skipped)


class _Members:
    """Ids that the batch must have: those of rows that Plan dropped as repetitions."""

    def __init__(self, problems: list[str], blocks: Callable[[], Iterator[list[str]]] | None) -> None:
        self._problems = problems
        self._blocks = blocks
        self._ids: set[str] = set()

    def expect(self, ids: Iterable[object]) -> None:
        if self._blocks is None:
            return
        self._ids.update(value for value in ids if isinstance(value, str))
        if len(self._ids) >= IDS_AT_ONCE:
            self.check()

    def check(self) -> None:
        """Go through the batch once for all ids that are expected so far."""
        if self._blocks is None or not self._ids:
            return
        for ids in self._blocks():
            self._ids.difference_update(ids)
        if self._ids:
            missing = sorted(self._ids)
            self._problems.append(
                f"{len(missing)} ids that the stage before handed on are not in the batch: {_named(missing)}"
            )
            self._ids.clear()


def _named(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - MAX_NAMED} more" if len(ids) > MAX_NAMED else ""
    return ", ".join(repr(value) for value in ids[:MAX_NAMED]) + more
