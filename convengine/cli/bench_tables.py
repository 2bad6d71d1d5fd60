"""What `convengine bench` prints: its tables, and what stands under them."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from convengine.cli.terminal import print_table
from convengine.tables import bytes_text, seconds_text

if TYPE_CHECKING:
    from convengine.bench import Report
    from convengine.bench.results import Comparison, Entry

__all__ = ["print_report"]


def print_report(report: "Report") -> None:
    """Print the tables of every suite, then the notes."""
    for name, comparisons in report.suites.items():
        click.echo(f"{name}:")
        _print_comparisons(comparisons)
        click.echo()
    for table in (_memory, _limits, _regions):
        table(report)
    _print_leads(report)
    _print_absences(report)
    _print_routes(report)
    _print_machine(report)


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


def _print_leads(report: "Report") -> None:
    for line in report.summary():
        who = f"{line['suite']}: {line['name']}"
        if (lead := line["lead"]) is not None:
            click.echo(
                f"{who} leads the best peer {lead['least']:.2f} times at least ({lead['least_at']}),"
                f" {lead['mean']:.2f} in the geometric mean of {lead['tasks']}"
            )
        if (cost := line["doubling"]) is not None:
            click.echo(f"{who} takes at most {cost['cost']:.2f} times as long for twice the samples ({cost['at']})")


def _print_absences(report: "Report") -> None:
    """Who was wrong, broke down, took no part or is not installed, and why."""
    entries = [(str(one.task), entry) for one in report.comparisons for entry in one.entries]
    for title, entry in entries:
        if entry.status in ("wrong", "failed"):
            click.echo(f"{entry.status}: {entry.name}, {title}: {entry.reason}")
    total = Counter(entry.name for _, entry in entries)
    refused = Counter((entry.name, entry.reason) for _, entry in entries if entry.status == "refused")
    for (name, reason), count in refused.items():
        where = "" if count == total[name] else f" in {count} of {total[name]}"
        click.echo(f"not taking part{where}: {name}: {reason}")
    for name, how in report.missing.items():
        click.echo(f"not installed: {name} ({how})")


def _print_routes(report: "Report") -> None:
    """Which function and settings of each peer were the fastest, in how many rounds."""
    routes: dict[str, Counter[str]] = {}
    for comparison in report.comparisons:
        for peer in comparison.peers:
            if peer.ok:
                routes.setdefault(peer.name, Counter()).update(+peer.routes)
    for name, found in routes.items():
        told = "; ".join(f"{route} ({count})" if len(found) > 1 else route for route, count in found.most_common())
        click.echo(f"{name} ({report.versions[name]}): {told}")


def _print_machine(report: "Report") -> None:
    machine = report.machine
    click.echo(
        f"convengine {machine['convengine']}, {machine['cpu']}, {machine['levels'][0]}, {machine['threads']} threads of"
        f" {machine['cpus']} CPUs, {report.settings.rounds} rounds, {machine['date']}"
    )
    if report.busy and report.others is not None:
        text = f"other programs took {report.others:.0%} of the CPUs' time: figures of a busy machine mislead"
        click.echo(text, err=True)
