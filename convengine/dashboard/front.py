"""The front page: the questions that people come with, answered by charts and tables of what was measured."""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from statistics import geometric_mean
from string import Template
from urllib.parse import quote, urlencode

from convengine.dashboard import charts
from convengine.dashboard.results import PEERS, Key, Measured, Step
from convengine.tables import fraction_text, ratio_text, seconds_text

__all__ = ["page"]

IMAGES, RATIO, LIMIT = "filters.Images.time_call", "comparisons.Ratio.track_time", "comparisons.Limit.track_time"
ACCURACY, SMALL = "comparisons.Accuracy.track_error", "overhead.SmallCall.time_call"
AUTOMATIC = "convengine"
# The groups of the chart over commits, by what a benchmark's name starts with.
GROUPS = {
    "images": "filters.Images.",
    "signals": "filters.Signals.",
    "layers": "layers.Layers.",
    "small calls": "overhead.SmallCall.",
    "ours / theirs": "comparisons.Ratio.",
}
SHOWN = 12  # regressions
FLOAT_ALL = {"p-dtype": "'float32'", "p-threads": "'all'"}

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>convengine: how fast, here</title>
<link rel="icon" href="data:,">
<style>
$style</style>
</head>
<body>
<a class="skip" href="#main">Skip to the answers</a>
<header>
<h1>convengine: how fast, here</h1>
<p>$where</p>
<nav aria-label="asv's pages"><ul>
<li><a href="asv/index.html#/">All benchmarks</a></li>
<li><a href="asv/index.html#summarylist">As a list</a></li>
<li><a href="asv/index.html#regressions">Regressions</a></li>
</ul></nav>
</header>
<main id="main">
$sections
</main>
<footer>
<h2>How this was measured</h2>
<p>By <code>convengine dashboard</code>, which runs the benchmarks in <code>asv_bench</code> with
<a href="asv/index.html">airspeed velocity</a>, each case in a process of its own. Every time is that of a warm call
whose result has room already. Of each library the fastest of its functions and settings counts. Ratios are medians of
rounds in which the libraries take turns, with results checked against proven bounds. <code>convengine bench</code>
compares more, and more patiently.</p>
</footer>
</body>
</html>
""")


def page(measured: Sequence[Measured], steps: Sequence[Step], subjects: Mapping[str, str], here: str) -> str:
    """The page of what the machine `here` measured last, or, if it has nothing, of what the project did.

    `steps` up that asv found, and the `subjects` of the commits.
    """
    latest = max(measured, key=lambda one: (one.machine == here, bool(one.values.get(IMAGES)), one.measured))
    own = [one for one in measured if (one.machine, one.python) == (latest.machine, latest.python)]
    sections = [
        _sizes(latest),
        _ahead(latest),
        _slower(own, [step for step in steps if step.machine == latest.machine], subjects),
        _right(latest),
        _limits(latest),
    ]
    subject = escape(subjects.get(latest.commit, ""))
    where = (
        f"{escape(latest.machine)}: {escape(latest.cpu)}, {escape(latest.threads)} threads, Python "
        f"{escape(latest.python)}; commit <code>{latest.commit[:8]}</code> “{subject}”, measured "
        f"{latest.measured:%d %B %Y}."
    )
    if latest.machine != here:
        where += " <strong>Nothing is measured on this machine yet: these are the project's own figures.</strong>"
    return PAGE.substitute(
        style=files("convengine.dashboard").joinpath("assets", "front.css").read_text(),
        where=where,
        sections="\n".join(filter(None, sections)),
    )


def _sizes(one: Measured) -> str:
    """Which backend is the fastest for which size."""
    cases = {
        (backend, n, k): seconds
        for (backend, n, k, dtype, threads), seconds in one.values.get(IMAGES, {}).items()
        if (dtype, threads) == ("float32", "all")
    }
    if not cases:
        return ""
    names = list(dict.fromkeys(name for name, _, _ in cases))
    over_k = {name: sorted((k, t) for (b, n, k), t in cases.items() if (b, n) == (name, 1024)) for name in names}
    over_n = {name: sorted((n, t) for (b, n, k), t in cases.items() if (b, k) == (name, 7)) for name in names}
    over_k, over_n = ({name: points for name, points in lines.items() if points} for lines in (over_k, over_n))
    drawings = [
        _figure(
            charts.times(lines, over, f"Time of one call over {over}, a line for each library"),
            caption,
            _link(one, IMAGES, **{"x-axis": axis, "y-axis-scale": "log", **chosen, **FLOAT_ALL}),
        )
        for lines, over, axis, chosen, caption in (
            (over_k, "kernel width", "k", {"p-n": "1024"}, "An image of 1024 x 1024, float32, all threads."),
            (over_n, "image width", "n", {"p-k": "7"}, "A kernel of 7 x 7, float32, all threads."),
        )
        if lines
    ]
    rows = [
        [f"{n} x {n}, {k} x {k}", *_fastest({name: t for (name, m, w), t in cases.items() if (m, w) == (n, k)})]
        for n, k in sorted({(n, k) for _, n, k in cases})
    ]
    header = ["image, kernel", "automatic choice", "our fastest, forced", "time", "fastest peer", "time"]
    return _section(
        "Which backend for my size?",
        "<p>Leave it to the automatic choice, the thick line: it should lie on the lowest of ours. "
        "<code>ce.explain(x, kernel)</code> says what it takes, and why not the others.</p>"
        f'<div class="charts">{"".join(drawings)}</div>'
        + _table(
            "The fastest of each, float32, all threads; a missing peer is not installed, or took more than 0.1 s",
            header,
            rows,
        ),
    )


def _fastest(times: Mapping[str, float]) -> list[str]:
    """The cells of one size: the automatic choice, the fastest of our backends where it is forced, the fastest peer."""
    ours = {name: t for name, t in times.items() if name.startswith(f"{AUTOMATIC}/")}
    theirs = {name: t for name, t in times.items() if not name.startswith(AUTOMATIC)}
    cells = [seconds_text(times[AUTOMATIC]) if AUTOMATIC in times else "n/a"]
    for found in (ours, theirs):
        best = min(found, key=found.__getitem__, default=None)
        name = PEERS.get(best or "", str(best).removeprefix(f"{AUTOMATIC}/"))
        cells += ["n/a", "n/a"] if best is None else [name, seconds_text(found[best])]
    return cells


def _ahead(one: Measured) -> str:
    """How many times longer the others take."""
    found = one.values.get(RATIO, {})
    if not found:
        return ""
    libraries = list(dict.fromkeys(library for library, _ in found))
    rows, marks = [], []
    for problem in dict.fromkeys(problem for _, problem in found):
        ratios = [found.get((library, problem)) for library in libraries]
        rows.append([str(problem), *("n/a" if r is None else ratio_text(1 / r) for r in ratios)])
        marks.append(["", *("" if r is None else "good" if r < 1 else "bad" for r in ratios)])
    means = [geometric_mean(1 / r for (library, _), r in found.items() if library == name) for name in libraries]
    rows.append(["geometric mean", *map(ratio_text, means)])
    marks.append(["", *("good" if mean > 1 else "bad" for mean in means)])
    header = ["problem", *(PEERS.get(str(name), str(name)) for name in libraries)]
    return _section(
        "Are we ahead of OpenCV, SciPy, PyTorch?",
        "<p>How many times longer each takes than convengine, all threads, our choice automatic: 2x is half as fast "
        "as convengine, below 1x it is faster.</p>"
        + _table("Time of the library over ours; n/a: not installed, no such filter, or too slow", header, rows, marks)
        + f'<p class="small"><a href="{_link(one, RATIO)}">Over the commits</a></p>',
    )


def _slower(own: Sequence[Measured], steps: Sequence[Step], subjects: Mapping[str, str]) -> str:
    """What became slower with which commit."""
    parts = []
    by_commit = {one.commit: one for one in own}
    if len(by_commit) > 1:
        lines = {
            name: values
            for name, start in GROUPS.items()
            if sum(map(math.isfinite, values := _relative(list(by_commit.values()), start))) > 1
        }
        if lines:
            drawing = charts.history(lines, [commit[:8] for commit in by_commit], "Relative times over commits")
            parts.append(_figure(drawing, "Geometric means over the cases that all commits have; lower is better."))
        rows = [
            [commit[:8], f"{one.committed:%Y-%m-%d}", subjects.get(commit, "")] for commit, one in by_commit.items()
        ]
        parts.append(_table("The commits measured on this machine", ["commit", "date", "subject"], rows))
    else:
        parts.append(
            "<p>One commit is measured on this machine so far. Check out another, install it, and run "
            "<code>convengine dashboard</code> again: two and more are compared here.</p>"
        )
    ours = sorted((step for step in steps if _is_ours(step.case)), key=lambda step: -step.growth)
    if ours:
        rows = [
            [
                step.case,
                ratio_text(step.growth),
                _value(step.case, step.before),
                _value(step.case, step.after),
                f"{step.since[:8]} {subjects.get(step.since, '')}",
            ]
            for step in ours[:SHOWN]
        ]
        header = ["benchmark", "times", "before", "after", "since"]
        parts.append(_table("Steps up of ours on this machine, as asv finds them, the largest first", header, rows))
    else:
        parts.append("<p>asv found no step up of ours on this machine.</p>")
    parts.append('<p><a href="asv/index.html#regressions">All regressions, with their graphs</a></p>')
    return _section("Did a commit slow us down?", "".join(parts))


def _is_ours(case: str) -> bool:
    """Whether a benchmark times convengine: a filter or a layer may be somebody else's."""
    return not case.startswith(("filters.", "layers.")) or "'convengine" in case or "(" not in case


def _value(case: str, value: float) -> str:
    return seconds_text(value) if ".time" in case and "comparisons" not in case else f"{value:.3g}"


def _relative(own: Sequence[Measured], start: str) -> list[float]:
    """Means of the benchmarks whose names start so, of our own cases that every commit has; the first's is 1."""
    every = [_ours(one, start) for one in own]
    filled = [found for found in every if found]
    if len(filled) < 2:
        return [math.nan] * len(own)
    common = set.intersection(*(set(found) for found in filled))
    if not common:
        return [math.nan] * len(own)
    means = [geometric_mean(found[key] for key in common) if found else math.nan for found in every]
    first = next(mean for mean in means if math.isfinite(mean))
    return [mean / first for mean in means]


def _ours(one: Measured, start: str) -> dict[tuple[str, Key], float]:
    """Cases of ours: of those that have a backend, the automatic choice alone."""
    return {
        (name, key): value
        for name, cases in one.values.items()
        if name.startswith(start)
        for key, value in cases.items()
        if value > 0 and (not name.startswith(("filters.", "layers.")) or AUTOMATIC in key)
    }


def _right(one: Measured) -> str:
    found = {str(key[0]): value for key, value in one.values.get(ACCURACY, {}).items()}
    if not found:
        return ""
    rows = [[name, "exact" if value == 0 else fraction_text(value)] for name, value in found.items()]
    return _section(
        "Is it right?",
        "<p>Every backend's answers to some hundred problems, against sums in wider arithmetic: the largest error as a "
        "fraction of what the proof allows. More than 1 would be wrong.</p>"
        + _table("Largest error over its proven bound", ["backend", "error / bound"], rows),
    )


def _limits(one: Measured) -> str:
    found = {str(key[0]): value for key, value in one.values.get(LIMIT, {}).items()}
    small = {n: value for (who, n, out), value in one.values.get(SMALL, {}).items() if who == AUTOMATIC and out}
    if not found:
        return ""
    rows = [[name, f"{value:.2f}"] for name, value in found.items()]
    text = (
        "<p>Our time over the least that a direct sum could take on this machine: all its multiply-adds at the peak "
        "rate, or reading and writing the arrays once, whichever is longer. Methods that save multiplications come "
        "below 1. Of integers only the reading and writing counts.</p>"
        + _table("Time over the machine's limit", ["problem", "time / limit"], rows)
    )
    if small:
        least = min(small)
        text += f"<p>A 3 x 3 filter of an image of {least} x {least} takes {seconds_text(small[least])} in all.</p>"
    return _section("How far is the limit?", text)


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _figure(drawing: str, caption: str, link: str = "") -> str:
    more = f' <a href="{link}">As a graph, with a choice of parameters</a>' if link else ""
    return f"<figure>{drawing}<figcaption>{escape(caption)}{more}</figcaption></figure>"


def _table(
    caption: str, header: Sequence[str], rows: Iterable[Sequence[str]], marks: Sequence[Sequence[str]] = ()
) -> str:
    """A table that scrolls by itself where it is wider than the screen."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    lines = []
    for number, row in enumerate(rows):
        kinds = marks[number] if marks else [""] * len(row)
        cells = [f'<th scope="row">{escape(row[0])}</th>']
        cells += [
            f"<td{f' class={kind!r}' if kind else ''}>{escape(cell)}</td>"
            for cell, kind in zip(row[1:], kinds[1:], strict=True)
        ]
        mean = ' class="mean"' if row[0] == "geometric mean" else ""
        lines.append(f"<tr{mean}>{''.join(cells)}</tr>")
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _link(one: Measured, benchmark: str, **chosen: str) -> str:
    """To asv's graph of a benchmark on the machine, parameters chosen."""
    return escape(f"asv/index.html#{benchmark}?{urlencode({'machine': one.machine, **chosen}, quote_via=quote)}")
