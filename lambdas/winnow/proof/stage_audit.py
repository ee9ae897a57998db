"""The audit of one stage: its counts derived again from the evidence, and compared with what its documents claim."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from winnow.batch.opening import open_source
from winnow.batch.plan import Digest, Plan, blocks_of, find_plan, ids_of
from winnow.core.contract import Pointer
from winnow.core.errors import DamagedDocument, WinnowError
from winnow.core.ranges import Ranges
from winnow.core.repeats import Repeats
from winnow.journal.segment import read_output_ids
from winnow.journal.successes import SuccessEntry, SuccessManifest
from winnow.proof.feed import Feed
from winnow.proof.output_lines import origins_of_outputs
from winnow.proof.result import Reached, StageProof
from winnow.proof.settlement_chain import MAX_NAMED, SettlementChain
from winnow.settlement.clashes import OutputIdCheck
from winnow.settlement.failure_records import read_failed_ids
from winnow.settlement.result import StageResult, find_result
from winnow.settlement.settlement import FINAL, Settlement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from winnow.batch.rows import RowSpan
    from winnow.core.keys import StageKeys
    from winnow.storage.ledger import Ledger

UNREADABLE = (WinnowError, ValueError, KeyError, TypeError, IndexError, zlib.error)
"""What reading a damaged document raises. Errors of S3 itself pass through: they say nothing about the ledger."""
IDS_AT_ONCE = 100_000
FINGERPRINT_MASK = 2**64 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a stage has to have been given."""

    pointer: Pointer | None = None
    """None where the stage before left nothing, so that this one should not have run."""
    manifest: SuccessManifest | None = None
    """Of the stage before; None for the first stage of a run."""


class StageAudit:
    """The proof of one stage while it is made."""

    def __init__(self, ledger: Ledger, stage: StageKeys, *, deep: bool = False) -> None:
        """`deep`: also read the outputs themselves, and compare each line with what the journal says of it."""
        self._ledger = ledger
        self._keys = stage
        self._deep = deep
        self._problems: list[str] = []
        self._notes: list[str] = []
        self.leaves = Given()

    def prove(self, given: Given) -> StageProof:
        try:
            plan = find_plan(self._ledger, self._keys)
            if plan is None:
                return StageProof(stage=self._keys.stage, reached=Reached.NOT_REACHED)
            return self._prove(plan, given)
        except UNREADABLE as error:
            self._problems.append(f"the ledger cannot be read: {type(error).__name__}: {error}")
            return StageProof(
                stage=self._keys.stage,
                reached=Reached.UNFINISHED,
                problems=tuple(self._problems),
                notes=tuple(self._notes),
            )

    def _prove(self, plan: Plan, given: Given) -> StageProof:
        self._check_batch(plan)
        self._check_given(plan, given)
        chain = SettlementChain(self._ledger, plan)
        last = chain.follow()
        self._problems += chain.problems
        outstanding = last.outstanding(plan)
        settled = last.verdict in FINAL and last.attempt >= 0
        # Written last. Without it the stage has failed loudly, and lost nothing.
        result = find_result(self._ledger, self._keys) if settled else None
        if settled and result is None:
            self._notes.append("it was settled, but its result was not written")
        done = result is not None
        outputs = 0
        if result:
            self._check_failures(plan, outstanding)
            manifest = self._check_successes(plan, last, chain)
            self._check_result(result, plan, last, len(outstanding))
            outputs = manifest.lines
            successes = Pointer(bucket=self._ledger.bucket, key=self._keys.successes)
            self.leaves = Given(pointer=successes, manifest=manifest)
        return StageProof(
            stage=plan.stage,
            reached=Reached.DONE if done else Reached.UNFINISHED,
            verdict=last.verdict.value if done else None,
            records_in=plan.count,
            succeeded=len(last.succeeded),
            skipped=len(last.skipped),
            failed=len(outstanding) if done else 0,
            outstanding=0 if done else len(outstanding),
            repetitions=last.repetitions(plan),
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
                # The id of a rejected row is made up, and may be the same as a real one.
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
        return (ids for _, ids in blocks_of(self._ledger, plan))

    # What the stage was given

    def _check_given(self, plan: Plan, given: Given) -> None:
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
        repeated = manifest.lines - plan.count - plan.superseded
        self._expect("the plan's count of duplicates", plan.duplicates, repeated)
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
        rows = Feed(open_source(self._ledger.store, plan.source).ids())
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
    def _compare_run(plan: Plan, rows: Feed[Any], batch: Feed[str], run: RowSpan) -> list[str]:
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
        for ordinal, record_id in read_failed_ids(self._ledger, self._keys.failures):
            lines += 1
            some.append(ordinal)
            fingerprint += hash((ordinal, record_id))
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
        return sum(map(hash, ids_of(self._ledger, plan, ordinals))) & FINGERPRINT_MASK

    def _check_successes(self, plan: Plan, last: Settlement, chain: SettlementChain) -> SuccessManifest:
        """The manifest lists the settled output segments, which exist and hold lines of succeeded records, each once."""
        manifest = self._ledger.read(self._keys.successes, SuccessManifest.from_json)
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
            ordinals = read_output_ids(self._ledger, entry).of
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
            if self._deep:
                self._check_body(plan, entry)
        self._expect("the successes' count of lines", manifest.lines, total)
        self._check_output_ids(manifest)
        return manifest

    def _check_body(self, plan: Plan, entry: SuccessEntry) -> None:
        """An output segment is as it was written, and each of its lines has the id and the origin that its list of ids says."""
        side = read_output_ids(self._ledger, entry)
        try:
            lines = list(origins_of_outputs(self._ledger, entry))
        except DamagedDocument as error:
            self._problems.append(str(error))
            return
        self._expect(f"the number of lines in {entry.key}", len(lines), len(side.ids))
        names = dict(ids_of(self._ledger, plan, Ranges.of(set(side.of))))
        wrong = [
            output_id
            for (output_id, origins), listed, ordinal in zip(lines, side.ids, side.of, strict=False)
            if output_id != listed or names[ordinal] not in origins
        ]
        if wrong:
            self._problems.append(
                f"{entry.key} holds {len(wrong)} lines that are not what its list of ids says: {_named(wrong)}"
            )

    def _check_output_ids(self, manifest: SuccessManifest) -> None:
        """No two outputs have one id, unless they are the same."""
        if not any(entry.own_ids for entry in manifest.entries):
            return
        for entry, clashes in OutputIdCheck(self._ledger, manifest.entries).clashes():
            ids = [clash.output_id for clash in clashes if clash.output_id]
            self._problems.append(f"{entry.key} has other outputs of ids that are handed on: {_named(ids)}")

    def _check_result(self, result: StageResult, plan: Plan, last: Settlement, failed: int) -> None:
        counts, output = result.counts, result.output
        for name, claimed, proved in (
            ("in", counts.records_in, plan.count),
            ("succeeded", counts.succeeded, len(last.succeeded)),
            ("skipped", counts.skipped, len(last.skipped)),
            ("failed", counts.failed, failed),
            ("repetitions", counts.repetitions, last.repetitions(plan)),
        ):
            self._expect(f"the result's count {name!r}", claimed, proved)
        self._expect("the result's verdict", result.verdict, last.verdict)
        self._expect("the output's count of successes", output.succeeded, len(last.succeeded))
        self._expect("the output's count of failures", output.failed, failed)


class _Members:
    """Ids that the batch must have, because Plan dropped their rows as repetitions."""

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
        """Read the batch once for all ids that are expected so far."""
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
