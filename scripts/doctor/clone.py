"""Checks of this clone and this machine. They need no account."""

import json
from pathlib import Path

from scripts.doctor.check import CheckGroup, check
from scripts.doctor.context import DoctorContext
from scripts.doctor.finding import Finding
from scripts.doctor.settings import read_settings
from stacks.settings import EnvironmentSettingsError

OLDEST_NODE = 20
SUPPORTED_NODE = 22
"""Node.js 20 is no longer maintained, and the CDK says so at each start."""


@check("settings", CheckGroup.CLONE)
def environment_settings(context: DoctorContext) -> Finding:
    """What cdk.json says of the environment can be deployed."""
    try:
        settings = read_settings(context.root, context.environment)
    except EnvironmentSettingsError as error:
        return Finding.failed(f"cdk.json: {error}")
    return Finding.ok(f"environment {context.environment} of cdk.json is valid; removal: {settings.removal}")


@check("tools", CheckGroup.CLONE)
def tools(context: DoctorContext) -> Finding:
    """Node.js and the CDK command line are there, in versions that work together."""
    node = context.output_of(["node", "--version"])
    if not node:
        return Finding.failed(
            "Node.js is not there; the CDK needs it", f"Install Node.js {SUPPORTED_NODE} or newer: nodejs.org"
        )
    major = int(node.removeprefix("v").partition(".")[0])
    if major < OLDEST_NODE:
        return Finding.failed(
            f"Node.js {node} is too old for the CDK", f"Install Node.js {SUPPORTED_NODE} or newer: nodejs.org"
        )
    pinned = _pinned_cdk(context.root)
    installed = _installed_cdk(context.root)
    if installed is None:
        return Finding.failed(
            "the CDK command line is not installed in node_modules",
            "Set up the clone:",
            "./scripts/winnow --version",
        )
    if installed != pinned:
        return Finding.failed(
            f"CDK {installed} is installed, and package.json asks for {pinned}",
            "Install what it asks for:",
            "npm ci",
        )
    versions = f"Node.js {node.removeprefix('v')}, CDK {installed}"
    if major < SUPPORTED_NODE:
        return Finding.warning(
            f"{versions}: this Node.js is no longer maintained, and the next CDK may refuse it",
            f"Install Node.js {SUPPORTED_NODE} or newer: nodejs.org",
        )
    return Finding.ok(versions)


def _pinned_cdk(root: Path) -> str:
    pinned: str = json.loads((root / "package.json").read_text())["devDependencies"]["aws-cdk"]
    return pinned


def _installed_cdk(root: Path) -> str | None:
    try:
        package = json.loads((root / "node_modules" / "aws-cdk" / "package.json").read_text())
    except FileNotFoundError:
        return None
    version: str = package["version"]
    return version
