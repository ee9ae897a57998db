"""Every S3 key of the ledger and of what is published. No other module spells one."""

from __future__ import annotations

from dataclasses import dataclass


def run(run_id: str) -> str:
    """What the run was planned as: pipeline, stages, trigger, records."""
    return f"runs/{run_id}/run.json"


def run_source(run_id: str) -> str:
    """Listing of the source bucket, when the run goes over it."""
    return f"runs/{run_id}/source.ndjson"


def run_report(run_id: str) -> str:
    """The run closer's proof."""
    return f"runs/{run_id}/report.json"


RUNS = "runs/"
REPLAYS = "replays/"


def replay_selection(replay_id: str) -> str:
    """What a replay was started with."""
    return f"replays/{replay_id}/selection.json"


@dataclass(frozen=True, slots=True)
class WindowKeys:
    """Keys of what arrived within one window. The folder's name is none that a stage can have."""

    run_id: str
    """Of the run that the window becomes."""

    @property
    def prefix(self) -> str:
        return f"runs/{self.run_id}/_arrivals/"

    def chunk(self, digest: str) -> str:
        """What one call of the gatherer brought."""
        return f"{self.prefix}chunks/{digest}.json.gz"

    def records(self, digest: str) -> str:
        """The list of records that the run goes over."""
        return f"{self.prefix}records-{digest}.ndjson"


@dataclass(frozen=True, slots=True)
class StageKeys:
    """Keys of one stage of one run."""

    run_id: str
    stage: str

    @property
    def prefix(self) -> str:
        return f"runs/{self.run_id}/{self.stage}/"

    @property
    def input(self) -> str:
        """Records that were given inline."""
        return f"{self.prefix}input.ndjson"

    @property
    def only(self) -> str:
        """Ids of an inline `only`."""
        return f"{self.prefix}only.ndjson"

    @property
    def scratch(self) -> str:
        """What a probe overwrites to see whether S3 lets it."""
        return f"{self.prefix}scratch"

    @property
    def plan(self) -> str:
        return f"{self.prefix}plan.json"

    def batch(self, batch_id: str, block: int) -> str:
        """A block of the list of ids that one call of Plan wrote."""
        return f"{self.prefix}batch/{batch_id}/{block:06d}.json.gz"

    @property
    def failures(self) -> str:
        return f"{self.prefix}failures.ndjson.gz"

    @property
    def successes(self) -> str:
        return f"{self.prefix}successes.json"

    @property
    def result(self) -> str:
        return f"{self.prefix}result.json"

    @property
    def attempts(self) -> str:
        return f"{self.prefix}attempts/"

    def attempt(self, number: int) -> AttemptKeys:
        return AttemptKeys(f"{self.attempts}{number:03d}/")

    def attempt_of(self, key: str) -> int:
        """The number of the attempt that a key under `attempts` belongs to."""
        return int(key.removeprefix(self.attempts).split("/", 1)[0])


@dataclass(frozen=True, slots=True)
class AttemptKeys:
    """Keys of one attempt of a stage."""

    prefix: str

    @property
    def claim(self) -> str:
        return f"{self.prefix}claim.json"

    @property
    def journal(self) -> str:
        return f"{self.prefix}journal/"

    def segment(self, invocation: str, sequence: int) -> str:
        return f"{self.journal}{invocation}-{sequence:06d}.json.gz"

    def outputs(self, invocation: str, sequence: int, suffix: str) -> str:
        return f"{self.prefix}outputs/{invocation}-{sequence:06d}.{suffix}"

    def output_ids(self, invocation: str, sequence: int) -> str:
        return f"{self.prefix}outputs/{invocation}-{sequence:06d}.ids.json.gz"

    def failures(self, invocation: str, sequence: int) -> str:
        return f"{self.prefix}failures/{invocation}-{sequence:06d}.ndjson.gz"

    @property
    def settlement(self) -> str:
        return f"{self.prefix}settlement.json.gz"

    @property
    def permanent_failures(self) -> str:
        """Failure records of those found permanent by this attempt, for the alert that does not wait for the end."""
        return f"{self.prefix}permanent-failures.ndjson.gz"

    @property
    def registered(self) -> str:
        """Says that the failure register has what this attempt settled."""
        return f"{self.prefix}registered.json"

    @property
    def alert(self) -> str:
        return f"{self.prefix}alert.json"

    @property
    def alerted(self) -> str:
        return f"{self.prefix}alerted.json"


@dataclass(frozen=True, slots=True)
class PublicationKeys:
    """Keys of one publication, in the bucket of what is published."""

    name: str

    @property
    def prefix(self) -> str:
        return f"published/{self.name}/"

    @property
    def current(self) -> str:
        """The pointer that consumers read."""
        return f"{self.prefix}current.json"

    @property
    def hold(self) -> str:
        """Says that no run moves the pointer."""
        return f"{self.prefix}hold.json"

    def run(self, run_id: str) -> str:
        """Says which version of a run was published."""
        return f"{self.prefix}runs/{run_id}.json"

    @property
    def history(self) -> str:
        return f"{self.prefix}history/"

    def move(self, at: str, token: str, kind: str) -> str:
        """One entry of the history; entries are in order of time."""
        return f"{self.history}{at}-{token}-{kind}.json"

    @property
    def versions(self) -> str:
        return f"{self.prefix}versions/"

    def version(self, number: int) -> VersionKeys:
        return VersionKeys(f"{self.versions}{number}/")

    def version_of(self, key: str) -> int | None:
        """The number of the version that a key under `versions` belongs to; None where it belongs to none."""
        number = key.removeprefix(self.versions).split("/", 1)[0]
        return int(number) if number.isdecimal() else None


@dataclass(frozen=True, slots=True)
class VersionKeys:
    """Keys of one version of a publication."""

    prefix: str

    @property
    def claim(self) -> str:
        return f"{self.prefix}claim.json"

    @property
    def manifest(self) -> str:
        return f"{self.prefix}manifest.json"

    @property
    def gate(self) -> str:
        """Results of the rules."""
        return f"{self.prefix}gate.json"

    @property
    def violations(self) -> str:
        """Every id that violates a rule, a line each."""
        return f"{self.prefix}violations.ndjson.gz"

    @property
    def pruning(self) -> str:
        """Says that the version is being deleted."""
        return f"{self.prefix}pruning.json"

    def part(self, number: int, suffix: str) -> str:
        """In a folder with nothing else in it: Athena reads all files of a folder."""
        return f"{self.prefix}data/part-{number:05d}.{suffix}"

    def origins(self, number: int) -> str:
        """Of the rows of the part with this number: which run wrote each."""
        return f"{self.prefix}origins-{number:05d}.ndjson.zst"
