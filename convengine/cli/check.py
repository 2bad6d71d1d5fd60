"""The command that holds every installed backend against the oracle."""

import click

from convengine.cli import options
from convengine.cli.terminal import print_json, progress

__all__ = ["check"]

QUICK = 8  # every eighth case


@click.command()
@options.backend
@click.option("--quick", is_flag=True, help=f"Every {QUICK}th problem only.")
@options.shown_as_json
def check(backend: tuple[str, ...] | None, quick: bool, as_json: bool) -> int:
    """Hold every backend against the oracle: errors as fractions of their proven bounds, refusals with reasons.

    Exit code 1 if an answer is wrong.
    """
    from convengine.crosscheck import crosscheck
    from convengine.testing import covering_cases

    cases = covering_cases()[:: QUICK if quick else 1]
    with progress("problems", len(cases)) as advance:
        report = crosscheck(backends=backend, cases=cases, progress=lambda done, total: advance(1))
    if as_json:
        print_json(report.to_dict())
    else:
        click.echo(repr(report))
    return 0 if report.ok else 1
