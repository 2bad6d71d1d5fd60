"""A clone with two commits and results of both, in place of the project's own: for the tests of the dashboard."""

import json
import subprocess
from itertools import product
from pathlib import Path

from convengine.dashboard import clone

LIBRARIES = ["convengine", "convengine/cython", "convengine/fft", "opencv"]
BENCHMARKS = {
    "filters.Images.time_call": (
        {"backend": LIBRARIES, "n": [256, 1024], "k": [3, 7, 31], "dtype": ["float32"], "threads": ["one", "all"]},
        "seconds",
        lambda slow, backend, n, k, dtype, threads: (
            None
            if (backend, k) == ("opencv", 31)
            else 1e-9 * n * n * (k if "fft" in backend else k * k) * (2 if backend == "opencv" else 1) * slow
        ),
    ),
    "comparisons.Ratio.track_time": (
        {"library": ["opencv", "ndimage"], "problem": ["image <256>", "signal"]},
        "ours / theirs",
        lambda slow, library, problem: None if (library, problem) == ("ndimage", "signal") else 0.5 * slow,
    ),
    "comparisons.Limit.track_time": ({"problem": ["image <256>"]}, "time / limit", lambda slow, problem: 1.25 * slow),
    "comparisons.Accuracy.track_error": (
        {"backend": ["cython", "fft"]},
        "error / bound",
        lambda slow, backend: 0.0 if backend == "fft" else 0.75,
    ),
    "overhead.SmallCall.time_call": (
        {"backend": ["convengine"], "n": [8, 64], "out": [True, False]},
        "seconds",
        lambda slow, backend, n, out: 2e-6 * slow,
    ),
    "overhead.Region.track_overhead": ({"pause": [0.0]}, "seconds", lambda slow, pause: None),  # nobody has run it
}
NOTHING = """class Nothing:
    params = ([1, 2],)
    param_names = ("number",)

    def setup(self, number):
        if number == 2:
            raise NotImplementedError

    def time_it(self, number):
        pass

    def track_it(self, number):
        return float(number)
"""


def git(folder: Path, *arguments: str) -> str:
    """Run git in a clone that knows no user."""
    names = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.org"]
    command = ["git", "-C", str(folder), *names, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def make_clone(folder: Path) -> list[str]:
    """Make a repository whose benchmarks measure nothing; return its two commits."""
    (folder / "asv_bench" / "benchmarks").mkdir(parents=True)
    conf = {
        "version": 1,
        "project": "convengine",
        "repo": "..",
        "environment_type": "virtualenv",
        "show_commit_url": "#",
    }
    (folder / "asv_bench" / "asv.conf.json").write_text(json.dumps(conf))
    (folder / "asv_bench" / "benchmarks" / "__init__.py").write_text("")
    (folder / "asv_bench" / "benchmarks" / "nothing.py").write_text(NOTHING)
    (folder / ".gitignore").write_text("/.asv/\n__pycache__/\n")  # as in the project's own
    git(folder, "init", "-q", "-b", "main")
    commits = []
    for subject in ("The first <commit>", "A slower commit"):
        (folder / "text").write_text(subject)
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", subject)
        commits.append(git(folder, "rev-parse", "HEAD"))
    return commits


def write_results(
    store: Path, commits: list[str], machine: str = "", slow: float = 3.0, measured: int = 0, without: str = ""
) -> None:
    """Write what asv would have found; the last commit takes three times as long. Default: on this machine.

    Of the benchmark `without`, no case was asked for.
    """
    machine = machine or str(clone.machine()["machine"])
    (store / machine).mkdir(parents=True)
    where = {"machine": machine, "arch": "x86_64", "cpu": "A <CPU>", "num_cpu": "2", "os": "Linux", "ram": "1"}
    (store / machine / "machine.json").write_text(json.dumps({**where, "version": 1}))
    known = {
        name: {
            "name": name,
            "code": "",
            "param_names": list(params),
            "params": [[repr(value) for value in values] for values in params.values()],
            "type": "track" if "track" in name else "time",
            "unit": unit,
            "version": "1",
            "timeout": 60,
        }
        for name, (params, unit, _) in BENCHMARKS.items()
    }
    (store / "benchmarks.json").write_text(json.dumps({**known, "version": 2}))
    for number, commit in enumerate(commits):
        results = {
            name: [
                [value(slow if number else 1.0, *case) for case in product(*params.values())],
                [[repr(one) for one in values] for values in params.values()],
                "1",
                1_700_000_000_000 + measured + number,
                1.0,
            ]
            for name, (params, _, value) in BENCHMARKS.items()
            if name != without
        }
        found = {
            "commit_hash": commit,
            "env_name": "existing-py3.11",
            "date": 1_700_000_000_000 + 10**8 * number,
            "params": where | {"python": "3.11"},
            "python": "3.11",
            "requirements": {},
            "env_vars": {},
            "result_columns": ["result", "params", "version", "started_at", "duration"],
            "results": results,
            "durations": {},
            "version": 2,
        }
        (store / machine / f"{commit[:8]}-existing-py3.11.json").write_text(json.dumps(found))
