"""What a check is, and how one is made: `@check("bootstrap", CheckGroup.ACCOUNT)`."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from scripts.doctor.context import DoctorContext
from scripts.doctor.finding import Finding


class CheckGroup(StrEnum):
    """What a check is about; also its heading."""

    CLONE = "This clone"
    """Needs no account."""
    ACCOUNT = "The account"
    """Before and after the first deploy."""
    DEPLOYED = "What is deployed"
    """After the first deploy."""
    PROBE = "Probes"
    """Start or send something; only with `--probe`, and after the first deploy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A question, and the function that answers it."""

    name: str
    """Short: the report's first column, and its name in JSON."""
    group: CheckGroup
    look: Callable[[DoctorContext], Finding]
    """May raise anything: use `scripts.doctor.examination.examine`."""


def check(name: str, group: CheckGroup) -> Callable[[Callable[[DoctorContext], Finding]], Check]:
    """Make a check of a function."""

    def make(look: Callable[[DoctorContext], Finding]) -> Check:
        return Check(name=name, group=group, look=look)

    return make
