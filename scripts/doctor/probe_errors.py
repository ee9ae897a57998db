"""Probes of the names that Step Functions gives to errors: the machines' rules compare them letter by letter."""

from dataclasses import dataclass

from scripts.doctor.check import Check
from scripts.doctor.finding import Finding
from scripts.doctor.probe import ProbeSite, describe_command, probe
from winnow.core.probe import Ask, new_probe_id
from winnow.core.sfn_errors import WORKER_DEATHS, SfnError
from winnow.probing.faults import ProbeError

LONGEST_SECONDS = 240.0
"""The slowest fault is a function that uses up its 60 s, after a cold start, and after it was throttled for a while."""

OF_THE_EMULATOR = "Runtime.HandlerError"
"""What the emulator calls every error that a function raises or dies of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault, and the names under which the machines treat it rightly."""

    name: str
    """Of the check."""
    ask: Ask
    usual: str
    """The name that AWS documents, or that has been seen."""
    also: frozenset[str] = frozenset()
    """Names that the machines treat alike."""
    otherwise: str
    """What is wrong where it has another name."""
    how: str = "call"
    emulated: bool = True
    """Whether the emulator has this fault at all."""


ALIVE = "a worker that dies so is run again with the same records, and the next attempt is not careful"
OWN_NAMES = "the rules for our own errors, such as StageInputError, do not match"
TOO_BIG = "it is not known what the machines make of an answer that is too big"

FAULTS = (
    Fault(name="error: raised", ask=Ask.RAISE, usual=ProbeError.__name__, otherwise=OWN_NAMES),
    Fault(
        name="error: raised, invoked",
        ask=Ask.RAISE,
        usual=ProbeError.__name__,
        otherwise=OWN_NAMES,
        how="invoke",
    ),
    Fault(
        name="error: process ends",
        ask=Ask.EXIT,
        usual=SfnError.RUNTIME_EXIT,
        also=WORKER_DEATHS,
        otherwise=ALIVE,
    ),
    Fault(
        name="error: out of memory",
        ask=Ask.MEMORY,
        usual=SfnError.RUNTIME_OUT_OF_MEMORY,
        also=WORKER_DEATHS,
        otherwise=ALIVE,
        emulated=False,
    ),
    Fault(
        name="error: 6 MB answered",
        ask=Ask.BIG_ANSWER,
        usual=SfnError.RESPONSE_TOO_LARGE,
        also=frozenset({SfnError.DATA_LIMIT}),
        otherwise=TOO_BIG,
        emulated=False,
    ),
    Fault(
        name="error: 256 KB answered",
        ask=Ask.BIG_STATE,
        usual=SfnError.DATA_LIMIT,
        otherwise=TOO_BIG,
        emulated=False,
    ),
    Fault(
        name="error: out of time",
        ask=Ask.TIMEOUT,
        usual=SfnError.SANDBOX_TIMED_OUT,
        also=WORKER_DEATHS,
        otherwise=ALIVE,
    ),
)


def try_fault(fault: Fault, site: ProbeSite) -> Finding:
    """Have the probe's function fail in one way, and compare the name."""
    if site.is_local and not fault.emulated:
        return Finding.skipped("the emulator enforces no such limit")
    ended = site.ask(fault.ask, new_probe_id(), how=fault.how, within=LONGEST_SECONDS)
    name = ended.failed_as
    if name == fault.usual or name in fault.also:
        return Finding.ok(name)
    if site.is_local and name == OF_THE_EMULATOR:
        return Finding.ok(f"{name}, as the emulator calls it; on AWS {fault.usual}")
    seen = f"Step Functions calls it {name}" if name else "nothing failed"
    return Finding.failed(
        f"{seen}, not {fault.usual}: {fault.otherwise}",
        "Add the name to lambdas/winnow/core/sfn_errors.py and to the rules of statemachines/, and report it. See it:",
        describe_command(ended.arn),
    )


def _check_of(fault: Fault) -> Check:
    return probe(fault.name, lambda site: try_fault(fault, site))


def look_at_start(site: ProbeSite) -> Finding:
    """The names of refused starts are the SDK's, as the rules of RunOutstanding and of the pipeline assume."""
    run_id = new_probe_id()
    ended = site.run(site.errors_machine, run_id, {"how": "take name"}, within=LONGEST_SECONDS)
    name = ended.failed_as
    if name == SfnError.NAME_TAKEN:
        return Finding.ok(f"{name}: a refusal has the name of the SDK's class, so limits have, too")
    return Finding.failed(
        f"Step Functions calls a name that is taken {name or 'no error at all'}, not {SfnError.NAME_TAKEN}: a start that "
        "is refused for a limit may have a name that no rule retries",
        "Compare START_REFUSED of lambdas/winnow/core/sfn_errors.py with it. See it:",
        describe_command(ended.arn),
    )


ERROR_PROBES: tuple[Check, ...] = (
    *map(_check_of, FAULTS),
    probe("error: start refused", look_at_start),
)
