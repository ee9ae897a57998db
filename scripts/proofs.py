from rich.console import Console

from scripts.clients import Target
from scripts.pipelines import Pipeline


def print_proof(target: Target, pipeline: Pipeline, run_id: str, console: Console) -> None:
    """X."""
