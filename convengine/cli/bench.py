"""The command that holds convengine's speed against the installed libraries'."""

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convengine.cli.pictures import PNG
from convengine.cli.terminal import plain, print_json, print_table, progress
from convengine.cli.writing import check_place, check_target, replacing
from convengine.native import cpu
from convengine.tables import bytes_text, seconds_text

if TYPE_CHECKING:
    from convengine.bench import Report, Run
    from convengine.bench.results import Comparison, Entry

__all__ = ["bench"]

LONG = 100  # seconds from which on an estimate is told first
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
    "--seconds", type=click.FloatRange(0, 60, min_open=True), default=0.2, show_default=True, help="Of a turn."
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
    contestants = [*work.ours(list(dict.fromkeys(methods)), isa), *work.peers(names)]
    run = work.Run(chosen, contestants, work.Settings(**settings))
    if run.estimate > LONG:
        _tell_estimate(run)
    with progress("turns", run.turns) as advance:
        report = run.report(" ".join(["convengine", *context.obj["words"]]), work.missing(names), advance)
    if json_to == "-":
        print_json(report.to_dict())
    else:
        _print(report)
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
    minutes = run.estimate / 60
    click.echo(
        f"about {minutes:.0f} min or more: {run.turns} turns of {run.settings.seconds:g} s and their preparation",
        err=True,
    )


def _print(report: "Report") -> None:
    for name, comparisons in report.suites.items():
        click.echo(f"{name}:")
        _print_comparisons(comparisons)
        click.echo()
    for table in (_memory, _limits, _regions):
        table(report)
    _print_notes(report)


def _print_comparisons(comparisons: "Sequence[Comparison]") -> None:
    peers = list(dict.fromkeys(peer.name for one in comparisons for peer in one.peers if peer.status != "refused"))
    several = any(len(one.ours) > 1 for one in comparisons)
    header = ["problem", *(["ours"] if several else []), "time", "method", *peers]
    header += ["best peer / ours", "FMA", "copy", "spread"]
    rows = []
    for one in comparisons:
        others = {peer.name: _time(peer) for peer in one.peers}
        for number, entry in enumerate(one.ours):
            shown = [others.get(name, "") if not number else "" for name in peers]
            names = [entry.name] if several else []
            rows.append(
                [str(one.task) if not number else "", *names, _time(entry), entry.method, *shown, *_ends(one, entry)]
            )
    print_table(header, rows)


def _time(entry: "Entry") -> str:
    if not entry.ok:
        return "-" if entry.status == "refused" else entry.status
    return seconds_text(entry.median)


def _ends(one: "Comparison", entry: "Entry") -> list[str]:
    ratio, best, flops, copy = one.ratio(entry), one.best_peer, one.of_flops(entry), one.of_copy(entry)
    shown = f"{best.name} {ratio.median:.2f} ({ratio.least:.2f}-{ratio.most:.2f})" if ratio and best else ""
    percent = ["" if share is None else f"{share:.0%}" for share in (flops, copy, entry.spread if entry.ok else None)]
    return [shown, *percent]


def _memory(report: "Report") -> None:
    if report.memory:
        workers = report.settings.threads
        rows = [
            [
                line["title"],
                line["name"],
                line["method"],
                bytes_text(line["bytes"]),
                bytes_text(line["bytes"] / workers),
            ]
            if not line["reason"]
            else [line["title"], line["name"], f"failed: {line['reason']}", "", ""]
            for line in report.memory
        ]
        print_table(["memory beside x and out", "ours", "method", "peak", "each worker"], rows)
        click.echo()


def _limits(report: "Report") -> None:
    if report.limits:
        peaks = [
            [line["level"], line["dtype"], str(line["threads"]), f"{line['flops'] / 1e9:.1f} GF/s"]
            for line in report.limits["peaks"]
        ]
        print_table(["level", "dtype", "threads", "peak of multiply-adds"], peaks)
        click.echo()
        copies = [
            [bytes_text(line["nbytes"]), line["copy"], seconds_text(line["seconds"]),
             f"{line['nbytes'] / line['seconds'] / 1e9:.1f} GB/s"]
            for line in report.limits["copies"]
        ]  # fmt: skip
        print_table(["copied", "how", "time", "bytes copied a second"], copies)
        click.echo()


def _regions(report: "Report") -> None:
    if report.regions:
        rows = [
            [line["pause"], str(line["threads"]), seconds_text(max(line["seconds"], 0)),
             f"{seconds_text(max(line['low'], 0))} - {seconds_text(max(line['high'], 0))}"]
            for line in report.regions
        ]  # fmt: skip
        print_table(["parallel region", "threads", "cost", "quartiles"], rows)
        click.echo()


def _print_notes(report: "Report") -> None:
    """What stands under the tables: the leads, who did not take part and why, versions, the machine."""
    for line in report.summary():
        if (lead := line["lead"]) is not None:
            click.echo(
                f"{line['suite']}: {line['name']} leads the best peer {lead['least']:.2f} times at least"
                f" ({lead['least_at']}), {lead['mean']:.2f} in the geometric mean of {lead['tasks']}"
            )
        if (doubling := line["doubling"]) is not None:
            click.echo(
                f"{line['suite']}: {line['name']} takes at most {doubling['cost']:.2f} times as long for twice the"
                f" samples ({doubling['at']})"
            )
    entries = [(str(one.task), entry) for one in report.comparisons for entry in one.entries]
    for title, entry in entries:
        if entry.status in ("wrong", "failed"):
            click.echo(f"{entry.status}: {entry.name}, {title}: {entry.reason}")
    refusals = dict.fromkeys((entry.name, entry.reason) for _, entry in entries if entry.status == "refused")
    for name, reason in refusals:
        click.echo(f"not taking part: {name}: {reason}")
    for name, how in report.missing.items():
        click.echo(f"not installed: {name} ({how})")
    for name in dict.fromkeys(entry.name for _, entry in entries if not entry.ours):
        routes = Counter(entry.route for _, entry in entries if entry.name == name and entry.ok)
        if routes:
            told = "; ".join(
                f"{route} ({count})" if len(routes) > 1 else route for route, count in routes.most_common()
            )
            click.echo(f"{report.versions.get(name, name)}: {told}")
    machine = report.machine
    click.echo(
        f"convengine {machine['convengine']}, {machine['cpu']}, {machine['levels'][0]}, {machine['threads']} threads of"
        f" {os.cpu_count()} CPUs, {report.settings.rounds} rounds, {machine['date']}"
    )
    if report.busy and report.others is not None:
        click.echo(
            f"other programs took {report.others:.0%} of the CPUs' time: figures of a busy machine mislead", err=True
        )
