"""Which code is deployed, against what this clone was synthesised to last."""

import json
from collections.abc import Iterable
from pathlib import Path

from scripts.doctor.check import CheckGroup, check
from scripts.doctor.context import DoctorContext
from scripts.doctor.finding import Finding, NotExamined
from scripts.doctor.stack import DeployedStack

SYNTHESISED_FROM = ("app.py", "cdk.json", "constraints.txt", "lambdas", "stacks", "statemachines")


@check("code", CheckGroup.DEPLOYED)
def code(context: DoctorContext) -> Finding:
    """Which versions of the workers are deployed; whether this clone has others is only told, as it may be meant."""
    found = context.stack()
    deployed = found.of_stages("CodeVersion")
    told = ", ".join(f"{stage} {version}" for stage, version in deployed.items())
    try:
        here = _synthesised(context.root, found)
    except NotExamined as reason:
        return Finding.ok(f"{told} ({reason})")
    differ = [stage for stage, version in deployed.items() if here.get(stage) not in {None, version}]
    if differ:
        return Finding.ok(
            f"{told}; this clone has other code for {', '.join(differ)}: deploy it if that is meant"
        )
    return Finding.ok(f"{told}, as in this clone")


def _synthesised(root: Path, found: DeployedStack) -> dict[str, str]:
    """Code version by stage, of the last `cdk synth` or `cdk deploy`.

    Computing them anew would take a synthesis.

    Raises:
        NotExamined: there is none, or something has changed since.
    """
    template = root / "cdk.out" / f"{found.name}.template.json"
    if not template.exists():
        raise NotExamined("not compared: this clone has not been synthesised")
    if template.stat().st_mtime < max(_times(root), default=0):
        raise NotExamined("not compared: this clone has changed since it was synthesised")
    outputs = json.loads(template.read_text()).get("Outputs", {})
    values = {key: output["Value"] for key, output in outputs.items() if isinstance(output.get("Value"), str)}
    return found.of_stages("CodeVersion", values)


def _times(root: Path) -> Iterable[float]:
    for name in SYNTHESISED_FROM:
        path = root / name
        files = path.rglob("*") if path.is_dir() else [path]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                yield file.stat().st_mtime
