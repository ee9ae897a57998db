"""Probes of the runtime that functions are deployed to."""

from collections.abc import Mapping
from typing import Any

from scripts.doctor.finding import Finding
from scripts.doctor.probe import ProbeSite, probe
from winnow.core.probe import Ask, new_probe_id

ANSWER_SECONDS = 240.0
"""The function may be throttled for a while: probes run at the same time."""
SLOW_START_SECONDS = 8.0
"""Lambda ends a start that takes 10 s, and begins again on the call's own time."""

ZSTD = "compression.zstd"
"""Of the standard library since Python 3.14; elsewhere a package stands in, which is not shipped to Lambda."""

CONDITIONS = {
    "if absent": "200",
    "if absent, again": "412 PreconditionFailed",
    "if unchanged, changed": "412 PreconditionFailed",
    "if unchanged": "200",
}
"""What the ledger and its claims build on, by what is tried."""


def look_at_conditions(site: ProbeSite) -> Finding:
    """S3 refuses a second write of what is written once, and a write over what has changed."""
    answers: Mapping[str, str] = _facts(site)["conditions"]
    wrong = [
        f"write {tried}: {answers.get(tried)}, not {expected}"
        for tried, expected in CONDITIONS.items()
        if answers.get(tried) != expected
    ]
    if wrong:
        return Finding.failed(
            f"{'; '.join(wrong)}: evidence could be overwritten",
            "Use S3 itself, in a region that has conditional writes.",
        )
    return Finding.ok("If-None-Match and If-Match are honoured (412)")


def look_at_runtime(site: ProbeSite) -> Finding:
    """Python, packages, zstd, and how long a cold start takes."""
    facts = _facts(site)
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items() if version)
    took = facts["start_seconds"]
    start = f"; a process of 256 MB starts in {took:.1f} s" if took is not None else ""
    said = f"Python {facts['python']} on {facts['machine']}, {packages}, zstd by {facts['zstd']}{start}"
    if facts["zstd"] != ZSTD and not (site.is_local and facts["zstd"].endswith(".zstd")):
        return Finding.failed(
            f"{said}; lists and outputs in zstd need {ZSTD}", "Deploy again: the runtime must be Python 3.14."
        )
    if took is not None and took > SLOW_START_SECONDS:
        return Finding.warning(
            said, "Starts are slow: is bytecode shipped? `cdk synth` warns where it is not."
        )
    return Finding.ok(said)


def _facts(site: ProbeSite) -> Mapping[str, Any]:
    found: Mapping[str, Any] = site.answer(Ask.FACTS, new_probe_id("facts"), within=ANSWER_SECONDS)
    return found


RUNTIME_PROBES = (probe("conditional writes", look_at_conditions), probe("runtime", look_at_runtime))
