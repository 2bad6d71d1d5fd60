"""The command that measures this machine and shows it as pages."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from convengine.cli.terminal import complain, progress

if TYPE_CHECKING:
    from convengine.dashboard import Clone

__all__ = ["dashboard"]

MINUTES = {"quick": "about four minutes", "full": "an hour or more"}


@click.command()
@click.option("--full", is_flag=True, help="Run every benchmark, which takes an hour or more; not only a selection.")
@click.option("--no-run", is_flag=True, help="Measure nothing, show what there is.")
@click.option("--again", is_flag=True, help="Measure once more what this commit has already.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False, readable=False),
    metavar="DIR",
    help="Write the pages there, for any static host, and serve nothing.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Of localhost; default: any that is free.",
)
@click.option("--open/--no-open", "browse", default=True, help="Whether to open a browser.")
def dashboard(full: bool, no_run: bool, again: bool, output: Path | None, port: int, browse: bool) -> int:
    """Measure all backends and the installed libraries on this machine, and look at it in a browser.

    Run it within a clone of the project. It runs the benchmarks that this commit has no results of, in some four
    minutes with nothing else running, makes the pages, and serves them on localhost until Ctrl-C.
    """
    from convengine import dashboard as work

    _require("asv", "matplotlib")
    with tempfile.TemporaryDirectory(prefix="convengine-dashboard-") as folder:
        site = Path(folder) / "site"
        try:
            clone = work.Clone.find(Path.cwd())
            # What can't be written or served is said before minutes of work.
            target = site if output is None else work.place(clone, output)
            with work.server_of(site, port) as server:
                if not no_run and (again or not work.is_measured(clone, "full" if full else "quick")):
                    _measure(clone, "full" if full else "quick")
                work.build(clone, target)
                if output is None:
                    work.serve(server, browse=browse, tell=lambda address: click.echo(f"{address}  (Ctrl-C ends it)"))
        except (work.NoClone, work.Failed, ValueError) as error:
            raise click.ClickException(str(error)) from None
    if output is not None:
        click.echo(f"{output}: whole; its index.html needs a web server, as 'python3 -m http.server' is one")
    return 0


def _measure(clone: "Clone", selection: str) -> None:
    from convengine.dashboard import measure

    if clone.changed:
        complain(f"what is installed differs from commit {clone.commit[:8]}, as which it counts", kind="warning: ")
    click.echo(f"measuring commit {clone.commit[:8]}: {MINUTES[selection]}; let nothing else run", err=True)
    with progress("benchmarks", 1) as advance:
        failed = measure(clone, selection, advance)
    if failed:
        complain(f"without a result, as they failed: {', '.join(failed)}; --again runs them anew", kind="warning: ")


_INSTALL = "pip install 'convengine[dashboard]'"


def _require(*modules: str) -> None:
    from importlib.util import find_spec

    for name in modules:
        if find_spec(name) is None:
            raise click.ClickException(f"the dashboard needs {name}: {_INSTALL}")
