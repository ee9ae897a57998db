"""Behind ./scripts/test: what is run, what is said of what failed, and the machine made slow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from scripts import ROOT
from scripts.checks import __main__ as checks
from scripts.checks import plugin
from scripts.checks.stress import PRIORITY, WORKER_VARIABLE, Stress
from tests.patience import PATIENCE_SECONDS, await_, wait_for_end_of

THIS = "tests/unit/scripts/checks/test_checks.py"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run pytest as ./scripts/test does, on a file of tests of its own."""

    def run(tests: str, *options: str, conftest: str = "") -> subprocess.CompletedProcess[str]:
        (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -ra\n")
        (tmp_path / "test_it.py").write_text(tests)
        (tmp_path / "conftest.py").write_text(conftest)
        return subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-p",
                checks.PLUGIN,
                f"--rootdir={tmp_path}",
                *options,
                tmp_path,
            ],
            cwd=tmp_path,
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    return run


TWO_FAIL = """
import pytest

@pytest.mark.xdist_group("together")
@pytest.mark.parametrize("what", ["fine", "bad one", "a@b"])
def test_it(what):
    assert what == "fine"
"""


@pytest.mark.parametrize("options", [(), ("--numprocesses=2", "--dist=loadgroup")], ids=["alone", "parallel"])
def test_names_what_failed_and_how_to_run_just_that(run: Run, options: tuple[str, ...]) -> None:
    done = run(TWO_FAIL, *options)
    assert done.returncode == 1
    _, _, said = done.stdout.partition("Run just that:\n")
    assert said.startswith(
        "./scripts/test \\\n    'test_it.py::test_it[bad one]' \\\n    'test_it.py::test_it[a@b]'\n"
        "The whole log: .local/test.log\n"
    )
    assert "2 failed, 1 passed" in done.stdout.splitlines()[-1], "pytest's own summary closes it"


def test_tests_of_a_group_run_in_one_process(run: Run) -> None:
    """With some versions of pytest and xdist together they silently do not: then each process deploys an emulator of its own."""
    tests = """
import pytest

@pytest.mark.xdist_group("together")
@pytest.mark.parametrize("n", range(12))
def test_it(n, worker_id, tmp_path_factory):
    (tmp_path_factory.getbasetemp().parent / f"ran-in-{worker_id}").touch()
    seen = sorted(path.name for path in tmp_path_factory.getbasetemp().parent.glob("ran-in-*"))
    assert seen == [f"ran-in-{worker_id}"]
"""
    done = run(tests, "--numprocesses=2", "--dist=loadgroup")
    assert done.returncode == 0, done.stdout
    assert "12 passed" in done.stdout


def test_names_files_where_very_much_failed(run: Run) -> None:
    done = run("import pytest\n@pytest.mark.parametrize('n', range(50))\ndef test_it(n):\n    assert n < 0\n")
    assert "Run just that:\n./scripts/test \\\n    test_it.py\n" in done.stdout


def test_says_nothing_of_failures_where_there_are_none(run: Run) -> None:
    done = run("def test_it():\n    pass\n")
    assert done.returncode == 0
    assert "what failed" not in done.stdout


FINE, WRONG = '["python", "-V"]', '["python", "/nowhere"]'


@pytest.mark.parametrize("parallel", [(), ("--numprocesses=2",)], ids=["alone", "parallel"])
def test_a_check_that_fails_beside_tests_that_pass_fails_all(run: Run, parallel: tuple[str, ...]) -> None:
    conftest = f"from scripts.checks import plugin\nplugin.CHECKS = {{'lint': {FINE}, 'types': {WRONG}}}\n"
    done = run("def test_it():\n    pass\n", plugin.BESIDE, *parallel, conftest=conftest)
    assert done.returncode == 1
    assert "lint: ok\ntypes: FAILED\n" in done.stdout
    assert "can't open file '/nowhere'" in done.stdout
    assert "1 passed" in done.stdout.splitlines()[-1]


def test_checks_that_pass_beside_tests_that_pass_are_reported(run: Run) -> None:
    conftest = f"from scripts.checks import plugin\nplugin.CHECKS = {{'lint': {FINE}}}\n"
    done = run("def test_it():\n    pass\n", plugin.BESIDE, conftest=conftest)
    assert done.returncode == 0, done.stdout
    assert "lint: ok\n" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "files_only"),
    [
        ([], False),
        (["-m", "not emulator"], False),
        (["tests"], False),
        (["tests/unit", THIS], False),
        ([THIS], True),
        ([f"{THIS}::test_it[a b]", "-x"], True),
        (["-k", "nothing", THIS, "app.py"], True),
        (["tests/nowhere.py"], True),
        (["tests/nowhere"], True),
        (["nowhere.py::test_it"], True),
        (["-k", "nowhere"], False),
    ],
)
def test_tests_of_a_file_or_two_run_in_one_process(arguments: list[str], *, files_only: bool) -> None:
    assert checks._names_files_only(arguments) is files_only


def test_keeps_all_that_is_said_without_colors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "LOG", tmp_path / "logs" / "test.log")
    said = "import sys; print('\x1b[31mred\x1b[0m', flush=True); print('and', file=sys.stderr); sys.exit(7)"
    assert checks._run([sys.executable, "-c", said], os.environ) == 7
    assert (tmp_path / "logs" / "test.log").read_text() == "red\nand\n"


def launcher(tmp_path: Path, *arguments: str) -> list[str]:
    """The command behind ./scripts/test, with a log of its own: that of the clone belongs to the run that this is part of."""
    code = f"""
import pathlib, sys
from scripts.checks import __main__ as checks
checks.LOG = pathlib.Path({str(tmp_path / "test.log")!r})
sys.exit(checks.main())
"""
    return [sys.executable, "-c", code, *arguments]


def test_says_that_a_path_does_not_exist(tmp_path: Path) -> None:
    command = launcher(tmp_path, "tests/nowhere.py")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "file or directory not found: tests/nowhere.py" in done.stdout
    assert (tmp_path / "test.log").read_text() == done.stdout


def test_ends_pytest_when_it_is_ended(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    (tmp_path / "test_it.py").write_text(
        f"""
import os, pathlib, time

def test_it():
    pathlib.Path({str(fifo)!r}).write_text(str(os.getpid()))
    time.sleep(600)
"""
    )
    command = launcher(tmp_path, str(tmp_path / "test_it.py"))
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as started:
        tests = int(fifo.read_text())
        started.terminate()
        assert started.wait(PATIENCE_SECONDS) == 128 + signal.SIGTERM
    wait_for_end_of(tests)


def test_a_seed_that_is_none_is_refused_in_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.checks", "--stress=much"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert (
        done.stderr
        == "scripts/test: --stress=much: the seed is a whole number, as an earlier run printed it\n"
    )


def test_a_seed_chooses_the_same_again() -> None:
    assert [Stress(n).environment for n in range(20)] == [Stress(n).environment for n in range(20)]
    assert len({Stress(n).environment["WINNOW_TEST_WAITS"] for n in range(20)}) == 3


PARENT = f"""
import os, subprocess, sys
environment = {{**os.environ, "{WORKER_VARIABLE}": "a-worker"}}
worker = subprocess.Popen([sys.executable, "-c", "input()"], env=environment, stdin=subprocess.PIPE)
print(worker.pid, flush=True)
input()
worker.communicate()
"""


def test_under_stress_workers_are_stopped_and_continued_and_all_is_well_afterwards() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as tests:
        assert tests.stdout
        worker = psutil.Process(int(tests.stdout.readline()))
        before = set(psutil.Process().children())
        with Stress(1).on(tests.pid):
            assert psutil.Process(tests.pid).nice() == psutil.Process().nice() + PRIORITY
            loads = set(psutil.Process().children()) - before
            assert len(loads) == os.cpu_count()
            await_("the worker's stop", lambda: worker.status() == psutil.STATUS_STOPPED)
            await_("that it goes on", lambda: worker.status() != psutil.STATUS_STOPPED)
        assert worker.status() != psutil.STATUS_STOPPED
        assert not any(load.is_running() for load in loads)
        tests.communicate(b"\n")
    assert not worker.is_running()
