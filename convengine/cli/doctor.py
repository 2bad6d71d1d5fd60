"""The command whose output goes into a report of a problem: what is installed, on what, and whether it is right."""

import sys
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

from convengine.cli import options
from convengine.cli.check import QUICK
from convengine.cli.terminal import print_json, progress

__all__ = ["doctor"]

# What convengine builds on, runs on or is compared with; those that are not installed are left out.
PACKAGES = (
    *("numpy", "scipy", "Cython", "click", "rich", "pillow", "pypng", "tifffile", "matplotlib", "scikit-image"),
    *("torch", "jax", "opencv-python", "opencv-python-headless", "onnxruntime", "asv"),
    *("cupy", "cupy-cuda11x", "cupy-cuda12x", "cupy-cuda13x"),
)


@click.command()
@options.shown_as_json
def doctor(as_json: bool) -> int:
    """Say what is installed here, and whether its answers are right: paste it into a report of a problem.

    Versions, CPU, options, backends, and every backend held against the oracle on some hundred problems. Exit code 1 if
    an answer is wrong.
    """
    from convengine.crosscheck import crosscheck
    from convengine.planning import backends, show_config
    from convengine.testing import covering_cases

    config, packages = show_config(), _versions()
    if not as_json:  # first what is known: a kernel that crashes ends the program
        click.echo(config)
        click.echo(f"executable {sys.executable}")
        click.echo("packages " + ", ".join(f"{name} {number}" for name, number in packages.items()))
        sys.stdout.flush()
    with progress("problems", 1) as advance:
        report = crosscheck(cases=covering_cases()[::QUICK], progress=lambda done, total: advance(1 / total))
    if as_json:
        found: dict[str, Any] = {
            "config": config.splitlines(),
            "packages": packages,
            "backends": {name: asdict(info) for name, info in backends().items()},
            "check": report.to_dict(),
        }
        print_json(found)
        return 0 if report.ok else 1
    verdict = "right" if report.ok else "WRONG"
    click.echo(f"\nself-check: {verdict}, {sum(one.cases for one in report.backends)} answers")
    click.echo(repr(report))
    return 0 if report.ok else 1


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
