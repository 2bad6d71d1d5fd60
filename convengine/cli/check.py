"""The command that holds every installed backend against the oracle."""

from typing import TYPE_CHECKING, Any

import click

from convengine.cli import options
from convengine.cli.terminal import print_json, print_table, progress
from convengine.errors import NoBackend
from convengine.tables import fraction_text

if TYPE_CHECKING:
    from convengine.crosscheck import BackendReport, CrosscheckReport

__all__ = ["check"]

QUICK = 8  # every eighth case


@click.command()
@options.all_backends
@click.option("--quick", is_flag=True, help=f"Every {QUICK}th problem only.")
@options.shown_as_json
def check(backend: tuple[str, ...] | None, quick: bool, as_json: bool) -> int:
    """Hold every backend against the oracle: errors as fractions of their proven bounds, refusals with reasons.

    Exit code 1 if an answer is wrong.
    """
    from convengine.crosscheck import crosscheck
    from convengine.testing import covering_cases

    cases = covering_cases()[::QUICK] if quick else None
    with progress("problems", 1) as advance:
        report = crosscheck(backends=backend, cases=cases, progress=lambda done, total: advance(1 / total))
    if all(one.reason for one in report.backends):
        reasons = "; ".join(f"{one.backend}: {one.reason}" for one in report.backends)
        raise NoBackend(f"no backend that was to be checked is usable: {reasons or 'none is installed'}")
    if as_json:
        print_json({**report.to_dict(), "backends": [_plain(one) for one in report.backends]})
    else:
        _print(report)
    return 0 if report.ok else 1


def _plain(one: "BackendReport") -> dict[str, Any]:
    """Plain values; a refusal in the middle of the work has no method."""
    values = one.to_dict()
    return values | {"methods": {name: fraction for name, fraction in values["methods"].items() if name}}


def _print(report: "CrosscheckReport") -> None:
    rows = [
        [
            one.backend,
            str(one.cases),
            str(one.refused.total()),
            str(len(one.failures)),
            fraction_text(one.largest) if one.fractions else "",
            "; ".join(one.methods),
        ]
        if not one.reason
        else [one.backend, "", "", "", "", "not usable"]
        for one in report.backends
    ]
    print_table(["backend", "cases", "refused", "failures", "largest error / bound", "methods"], rows)
    for line in repr(report).splitlines()[1 + len(rows) :]:  # refusals and failures
        click.echo(line)
