"""The command that measures this machine for the automatic choice, or checks that choice."""

import click

import convengine as ce
from convengine import prices, tuning
from convengine.cli import options
from convengine.cli.terminal import print_json, progress

__all__ = ["tune"]


@click.command()
@click.option("--check", "checks", is_flag=True, help="Measure nothing new: compare the choice with the best there is.")
@click.option("--problems", type=click.IntRange(1, 100_000), help="Random problems of --check.  [default: 300]")
@click.option("--seed", type=click.IntRange(0), help="Which problems --check takes.  [default: 0]")
@click.option("--remove", is_flag=True, help="Remove what was stored for this machine.")
@options.shown_as_json
def tune(checks: bool, problems: int | None, seed: int | None, remove: bool, as_json: bool) -> None:
    """Measure this machine once, in about a minute, so that the fastest method is chosen on it.

    Leave the machine alone meanwhile. What is found is stored in your cache directory; CONVENGINE_CACHE names another.
    """
    if checks and remove:
        raise click.UsageError("--check measures, --remove removes; give one of them")
    if not checks and (problems is not None or seed is not None):
        raise click.UsageError("--problems and --seed go with --check")
    if remove:
        file = prices.cache_file()
        there = file.exists()
        file.unlink(missing_ok=True)
        click.echo(f"removed {file}" if there else f"there is none: {file}")
        return
    done = 0.0
    with progress("Checking the choice" if checks else "Measuring this machine", 1.0) as advance:

        def until(share: float) -> None:
            nonlocal done
            advance(share - done)
            done = share

        found: tuning.Check | tuning.Tuning
        if checks:
            found = tuning.check(problems=problems or 300, seed=seed or 0, progress=until)
        else:
            found = ce.tune(progress=until)
    if as_json:
        print_json(found.to_dict())
    else:
        click.echo(repr(found))
