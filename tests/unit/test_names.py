"""One word per idea: no public class has the name of another."""

from __future__ import annotations

import ast
from collections import defaultdict

from scripts import ROOT

FOLDERS = ("benchmarks", "lambdas", "scripts", "stacks", "statemachines")


def test_no_two_public_classes_have_one_name() -> None:
    places = defaultdict(list)
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.parse(path.read_bytes()).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places[node.name].append(str(path.relative_to(ROOT)))
    assert len(places) > 100
    assert {name: files for name, files in places.items() if len(files) > 1} == {}
