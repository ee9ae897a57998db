import click

from scripts.clients import local_option


@click.command()
@local_option
def verify() -> None:
    """X"""
