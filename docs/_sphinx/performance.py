"""Tables of what the project measured on its reference machine, from asv_bench/results."""

from pathlib import Path
from statistics import geometric_mean

from convengine.dashboard.results import PEERS, Measured, load
from convengine.tables import fraction_text, ratio_text, seconds_text

__all__ = ["markdown"]

HISTORY = Path(__file__).parents[2] / "asv_bench" / "results"
IMAGES, RATIO = "filters.Images.time_call", "comparisons.Ratio.track_time"
LIMIT, ACCURACY = "comparisons.Limit.track_time", "comparisons.Accuracy.track_error"


def markdown() -> str:
    """Return the tables of the newest commit that was measured."""
    one = load(HISTORY)[-1]
    where = (
        f"{one.cpu}, {one.threads} threads, Python {one.python}, commit `{one.commit[:8]}`, {one.measured:%d %B %Y}; "
        "n/a: the library has no such filter, or takes much more than 0.1 s for a call."
    )
    return "\n\n".join([where, *_ratios(one), *_images(one), *_limits(one)])


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _ratios(one: Measured) -> list[str]:
    found = one.values[RATIO]
    libraries = list(dict.fromkeys(library for library, _ in found))
    rows = [
        [problem, *(ratio_text(1 / found[name, problem]) if (name, problem) in found else "n/a" for name in libraries)]
        for problem in dict.fromkeys(problem for _, problem in found)
    ]
    means = [geometric_mean(1 / r for (library, _), r in found.items() if library == name) for name in libraries]
    rows.append(["geometric mean", *(f"**{ratio_text(mean)}**" for mean in means)])
    return [
        "## How many times longer the others take",
        "Medians of five rounds in which the libraries take turns, results checked. Above 1, convengine is faster.",
        _table(["problem", *(PEERS[name] for name in libraries)], rows),
    ]


def _images(one: Measured) -> list[str]:
    found = {
        (name, n, k): seconds
        for (name, n, k, dtype, threads), seconds in one.values[IMAGES].items()
        if (dtype, threads) == ("float32", "all")
    }
    names = list(dict.fromkeys(name for name, _, _ in found))
    texts = {case: seconds_text(seconds) for case, seconds in found.items()}
    rows = [
        [f"{n} x {n}, {k} x {k}", *(texts.get((name, n, k), "n/a") for name in names)]
        for n, k in sorted({(n, k) for _, n, k in found})
    ]
    return [
        "## One call, by image and kernel",
        "float32, all threads; `convengine` is the automatic choice, `convengine/...` what is forced.",
        _table(["image, kernel", *(f"`{name}`" for name in names)], rows),
    ]


def _limits(one: Measured) -> list[str]:
    rows = [[problem, f"{value:.2f}"] for (problem,), value in one.values[LIMIT].items()]
    errors = [
        [name, "exact" if value == 0 else fraction_text(value)] for (name,), value in one.values[ACCURACY].items()
    ]
    return [
        "## The machine's limit, and the proof's",
        "The time over the least that a direct sum could take: all multiply-adds at the peak rate, or reading and "
        "writing the arrays once. Methods that save multiplications come below 1; of integers only the reading and "
        "writing counts.",
        _table(["problem", "time / limit"], rows),
        "The largest error of each backend over its proven bound, on some hundred problems:",
        _table(["backend", "error / bound"], errors),
    ]
