"""The command that holds convengine's speed against the installed libraries'."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convengine.cli.bench_tables import print_report
from convengine.cli.pictures import PNG
from convengine.cli.terminal import plain, print_json, progress
from convengine.cli.writing import check_place, check_target, replacing
from convengine.native import cpu

if TYPE_CHECKING:
    from convengine.bench import Run

__all__ = ["bench"]

LONG = 120  # seconds from which on an estimate is told first
NAMES = ("small", "direct", "large", "float64", "uint8", "gaussian", "signals", "scaling", "memory", "limits", "pool")
DTYPES = ("float32", "float64", "uint8", "int8", "uint16", "int16", "int32", "int64")


def _numbers(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...]:
    parts = [part.strip() for part in value.split(",")] if value is not None else []
    if not all(part.isascii() and part.isdigit() and int(part) for part in parts):
        raise click.BadParameter(f"needed are whole numbers with commas between, as in 3,5,7; got {value!r}")
    return tuple(map(int, parts))


def _words(
    known: Callable[[], Sequence[str]],
) -> Callable[[click.Context, click.Parameter, str | None], tuple[str, ...]]:
    """Read names with commas between, of those that `known` returns."""

    def read(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
        words = [word.strip() for word in value.split(",")] if value is not None else []
        for word in words:
            if word.partition("/")[0] not in known():
                raise click.BadParameter(f"needed is one of {', '.join(known())}; got {word!r}")
        return tuple(words)

    return read


def _peers() -> list[str]:
    from convengine.bench import PEERS

    return ["all", "none", *PEERS]


def _methods() -> list[str]:
    from convengine import registry

    return ["auto", *registry.names()]


def _threads(context: click.Context, parameter: click.Parameter, value: int | None) -> int:
    available = cpu.available_workers()
    if value is not None and value > available:
        raise click.BadParameter(f"this process may use {available} CPUs; got {value}")
    return value or available


@click.command(epilog="Nothing else should run meanwhile; docs/guide/benchmarks.md says how it is measured.")
@click.option(
    "--suite",
    "suites",
    type=click.Choice(["quick", *NAMES]),
    multiple=True,
    help="What is asked, may be repeated; default: quick, about a minute.",
)
@click.option("--sizes", metavar="N[,N...]", callback=_numbers, help="Widths of square images, lengths of signals.")
@click.option("--widths", metavar="K[,K...]", callback=_numbers, help="Widths of the kernels.")
@click.option("--dtypes", metavar="DTYPE[,...]", callback=_words(lambda: DTYPES), help="Of the arrays.")
@click.option("--threads", type=click.IntRange(min=1), callback=_threads, help="Of every library; default: every CPU.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Turns of every library.")
@click.option(
    "--seconds", type=click.FloatRange(0, 60, min_open=True), help="Of a turn; default: 0.3, of the suite quick 0.1."
)
@click.option(
    "--patience", type=click.FloatRange(min=0), default=2.0, show_default=True, help="Seconds of a call to put up with."
)
@click.option("--peers", metavar="NAME[,...]", default="all", callback=_words(_peers), help="Which; or all, or none.")
@click.option(
    "--methods",
    metavar="NAME[,...]",
    default="auto",
    callback=_words(_methods),
    help="Of ours, one line each: auto, a backend, or a backend and the start of a method's name, as in cython/direct.",
)
@click.option(
    "--isa",
    metavar="LEVEL[,...]",
    callback=_words(lambda: cpu.levels()),
    help="Levels to force, one line of ours each.",
)
@click.option("--json", "json_to", metavar="FILE|-", help="Write everything as JSON; -: print it instead of tables.")
@click.option(
    "--plot", type=click.Path(path_type=Path, readable=False), metavar="FILE.png", help="Draw time over width."
)
@click.pass_context
def bench(
    context: click.Context,
    /,
    suites: tuple[str, ...],
    sizes: tuple[int, ...],
    widths: tuple[int, ...],
    dtypes: tuple[str, ...],
    peers: tuple[str, ...],
    methods: tuple[str, ...],
    isa: tuple[str, ...],
    json_to: str | None,
    plot: Path | None,
    **settings: Any,
) -> int:
    """Time convengine and the installed libraries side by side on this machine.

    Each library runs in a process of its own, at the fastest of its functions and settings; they take turns, round
    after round, and what is not measured is stopped. Results are held against proven bounds. A line shows the median
    time of a call, and how many times longer the best peer takes: the median of the rounds, the least and the most.
    FMA and copy are the shares of the machine's limits, measured in the same rounds, that the direct sum's arithmetic
    and the array's bytes make in that time.

    Sizes, widths and dtypes replace those of the suites. Exit code 1 if an answer is wrong.
    """
    from convengine import bench as work

    known = {name: work.SUITES[name] for name in suites or (work.DEFAULT,)}
    if not suites and (sizes or widths or dtypes):
        known = {"chosen": replace(work.SUITES[work.DEFAULT], title="as chosen")}
    chosen = {name: suite.narrowed(sizes, widths, dtypes) for name, suite in known.items()}
    _check(chosen, json_to, plot)
    names = list(work.PEERS) if "all" in peers else [name for name in peers if name != "none"]
    contestants = [*work.our_contestants(list(dict.fromkeys(methods)), isa), *work.peer_contestants(names)]
    run = work.Run(chosen, contestants, work.Settings(**settings))
    if run.estimate > LONG:
        _tell_estimate(run)
    with progress("turns", run.turns) as advance:
        report = run.report(" ".join(["convengine", *context.obj["words"]]), work.missing(names), advance)
    if json_to == "-":
        print_json(report.to_dict())
    else:
        print_report(report)
    if json_to not in (None, "-"):
        with replacing(Path(str(json_to))) as file:
            file.write(json.dumps(plain(report.to_dict()), indent=2, allow_nan=False).encode() + b"\n")
    if plot is not None:
        from convengine.bench.chart import draw

        with replacing(plot) as file:
            draw(file, report.comparisons)
    return 0 if report.ok else 1


def _check(suites: dict[str, Any], json_to: str | None, plot: Path | None) -> None:
    """Refuse what would fail after minutes of work."""
    if not any(suite.tasks() or suite.measure in ("limits", "pool") for suite in suites.values()):
        raise click.UsageError("there is nothing to time: a signal must be as long as its kernel")
    for name, suite in suites.items():
        if suite.kind == "gaussian" and not all(dtype.startswith("float") for dtype in suite.dtypes):
            raise click.UsageError(f"the suite {name!r} has float32 and float64; got --dtypes {','.join(suite.dtypes)}")
    if json_to not in (None, "-"):
        check_place(Path(str(json_to)))
    if plot is not None:
        if check_target(plot) is not PNG:
            raise click.ClickException(f"{plot}: the picture is a PNG; give a name that ends in .png")
        if not any(suite.measure == "time" for suite in suites.values()):
            raise click.UsageError("--plot draws times; none of these suites has any")
        import matplotlib  # noqa: F401  # that it lacks is said now


def _tell_estimate(run: "Run") -> None:
    text = f"about {run.estimate / 60:.0f} min or more: {run.turns} turns and their preparation"
    click.echo(text, err=True)
