"""What `winnow local up` leaves for the commands after it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from scripts import ROOT
from scripts.local import emulator
from scripts.local.emulator import Endpoint

FOLDER = ROOT / ".local"
"""Everything that running Winnow leaves in the clone; ignored by git."""
HOME = FOLDER / "emulator"
"""Home of the one emulator that `winnow local` runs and `--local` aims at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalState:
    """The emulator of `winnow local`, once the app is deployed to it."""

    endpoint: Endpoint
    started_at: str

    @classmethod
    def read(cls) -> Self | None:
        """What is running, or None: a file whose emulator is gone says nothing."""
        if not emulator.is_running(HOME):
            return None
        try:
            found = json.loads(_file().read_text())
        except FileNotFoundError:
            return None
        bundle = found["ca_bundle"]
        endpoint = Endpoint(url=found["url"], ca_bundle=Path(bundle) if bundle else None)
        return cls(endpoint=endpoint, started_at=found["started_at"])

    def write(self) -> None:
        """Publish it, in one step."""
        bundle = self.endpoint.ca_bundle
        fields = {
            "url": self.endpoint.url,
            "ca_bundle": str(bundle) if bundle else None,
            "started_at": self.started_at,
        }
        unpublished = _file().with_suffix(".new")
        unpublished.write_text(json.dumps(fields, indent=2) + "\n")
        unpublished.rename(_file())


def _file() -> Path:
    return HOME / "state.json"
