from __future__ import annotations

from pathlib import Path

import pytest

from scripts.local import cdk

STUB = """#!/usr/bin/env bash
# Stands in for the CDK: says what it was asked, makes what synth makes.
echo "$*" >>"{calls}"
if [ -e "{root}/broken" ]; then echo "SettingsError: max_tries must be at least 1"; exit 1; fi
for argument in "$@"; do case "$argument" in --output=*) mkdir -p "${{argument#--output=}}" ;; esac; done
"""


class Clone:
    """A clone with an app of one file."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.calls = root / "calls"
        self.calls.touch()
        (root / "lambdas").mkdir()
        self.write("one")
        stub = root / "cdk"
        stub.write_text(STUB.format(calls=self.calls, root=root))
        stub.chmod(0o755)
        monkeypatch.setattr(cdk, "ROOT", root)
        monkeypatch.setattr(cdk, "CDK", stub)
        monkeypatch.setattr(cdk, "ASSEMBLIES", root / "assemblies")
        monkeypatch.setattr(cdk, "INPUTS", ("lambdas",))

    def write(self, text: str) -> None:
        (self.root / "lambdas" / "worker.py").write_text(text)

    def syntheses(self) -> int:
        return len(self.calls.read_text().splitlines())


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    return Clone(tmp_path, monkeypatch)


def test_synthesises_again_only_where_something_changed(clone: Clone) -> None:
    first = cdk.Synthesis().wait()
    assert cdk.Synthesis().is_reused
    assert cdk.Synthesis().wait() == first
    assert clone.syntheses() == 1
    clone.write("two")
    assert cdk.Synthesis().wait() != first
    assert clone.syntheses() == 2
    clone.write("one")
    assert cdk.Synthesis().wait() == first
    assert clone.syntheses() == 2


def test_keeps_the_last_few_syntheses_and_nothing_half_made(clone: Clone) -> None:
    for number in range(5):
        clone.write(str(number))
        last = cdk.Synthesis().wait()
    assert last.is_dir()
    assert len(list(cdk.ASSEMBLIES.iterdir())) == cdk.KEPT_ASSEMBLIES


def test_shows_the_end_of_the_log_of_a_command_that_fails(clone: Clone) -> None:
    (clone.root / "broken").touch()
    with pytest.raises(
        cdk.CdkError, match=r"cdk synth failed.*\nSettingsError: max_tries must be at least 1"
    ):
        cdk.Synthesis().wait()
    assert list(cdk.ASSEMBLIES.iterdir()) == []


def test_says_what_installs_a_missing_cdk(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cdk, "CDK", clone.root / "nowhere")
    with pytest.raises(
        cdk.CdkError, match=r"the CDK command line is missing .*; \./scripts/winnow --version installs it"
    ):
        cdk.Synthesis()
