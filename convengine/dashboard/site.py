"""Makes the pages: asv's own, which then need no network, and the front page before them."""

import json
import re
import shutil
import tempfile
from errno import EEXIST
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from convengine.dashboard.clone import Clone, machine
from convengine.dashboard.front import page
from convengine.dashboard.measuring import Failed, configuration, run_asv
from convengine.dashboard.results import Measured, load, read_steps, result_files

__all__ = ["MARK", "build", "place"]

MARK = "convengine-dashboard"  # a file of every site: a folder that has it may be replaced by a newer site
# How asv's pages ask for scripts and styles of other hosts.
SCRIPT = re.compile(r'<script src="https://[^"]*/([^"/]+)"[^>]*></script>')
STYLE = re.compile(r'<link rel="stylesheet" href="https://[^"]*/([^"/]+)"[^>]*>')
# Files whose names here are those of their packages: flot's is not minified.
RENAMED = {f"jquery.flot{part}.min.js": f"jquery.flot{part}.js" for part in ("", ".time", ".selection", ".categories")}
RENAMED["jquery-3.3.1.min.js"] = "jquery.min.js"
HEAD = (
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n    <link href="more.css" rel="stylesheet">'
)
BACK = '<li><a href="../index.html">Overview</a></li>\n\t'


def build(clone: Clone, target: Path) -> None:
    """Write the site of all that is kept: what this machine measured, and what the project did.

    `target` must not exist, or be empty, or be such a site; it is whole in the end, or as it was.

    Raises
    ------
    FileExistsError
        If `target` holds something else.
    Failed
        If asv can't make its pages.
    """
    target = place(clone, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as name:
        folder = Path(name)
        site = folder / "site"
        results = folder / "results_dir"
        measured = _gather(results, clone)
        if not measured:
            raise Failed("nothing is measured yet: run 'convengine dashboard' without --no-run")
        conf = configuration(clone, folder, sorted({one.commit for one in measured}))
        run_asv(["publish", "--no-pull", "--config", str(conf)], folder, lambda share: None)
        site.mkdir()
        (folder / "html_dir").rename(site / "asv")
        _complete(site / "asv")
        steps = read_steps(site / "asv")
        subjects = clone.subjects({one.commit for one in measured})
        text = page(measured, steps, subjects, str(machine()["machine"]))
        (site / "index.html").write_text(text, encoding="utf-8")
        (site / MARK).write_text("made by 'convengine dashboard', which may replace this folder\n")
        _replace(target, site, folder / "before")


def place(clone: Clone, target: Path) -> Path:
    """Where the site goes, whole; FileExistsError if that may not be replaced."""
    target = target.resolve()
    if any(target == kept or kept in target.parents for kept in (clone.store, clone.history)):
        raise FileExistsError(EEXIST, "results are kept there; name another folder", str(target))
    if target.exists() and not (target / MARK).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(EEXIST, "there is something else; name a new folder", str(target))
    return target


def _replace(target: Path, site: Path, before: Path) -> None:
    """Put the site in the place of an older one, which comes back if that fails."""
    had = target.exists()
    if had:
        target.rename(before)
    try:
        site.rename(target)
    except BaseException:  # Ctrl-C too: the older site comes back
        if had:
            before.rename(target)
        raise


def _gather(results: Path, clone: Clone) -> list[Measured]:
    """Copy the results of the project and of the clone into one folder, and read them.

    Left out is what asv's page would ask for in vain: commits that a shallow clone lacks, and benchmarks that nobody
    has run.
    """
    results.mkdir()
    benchmarks: dict[str, Any] = {}
    for source in (clone.history, clone.store):
        if (source / "benchmarks.json").is_file():
            benchmarks |= json.loads((source / "benchmarks.json").read_text())
        for file in source.glob("*/*.json"):
            (results / file.parent.name).mkdir(exist_ok=True)
            shutil.copy(file, results / file.parent.name / file.name)
    known = clone.subjects({one.commit for one in load(results)})
    for file in result_files(results):
        if not any(commit.startswith(file.name.partition("-")[0]) for commit in known):
            file.unlink()
    for folder in (path for path in results.iterdir() if path.is_dir()):
        if not any(file.parent == folder for file in result_files(results)):
            shutil.rmtree(folder)
    measured = load(results)
    found = {name for one in measured for name, cases in one.values.items() if cases} | {"version"}
    kept = {name: values for name, values in benchmarks.items() if name in found}
    (results / "benchmarks.json").write_text(json.dumps(kept))
    return measured


def _complete(pages: Path) -> None:
    """Lay beside asv's page what it would load from elsewhere, and let it be used by keyboard and on a phone."""
    index = pages / "index.html"
    text = index.read_text(encoding="utf-8")
    wanted = [*SCRIPT.findall(text), *STYLE.findall(text)]
    text = SCRIPT.sub(lambda found: f'<script src="vendor/{_local(found[1])}"></script>', text)
    text = STYLE.sub(lambda found: f'<link rel="stylesheet" href="vendor/{_local(found[1])}">', text)
    text = text.replace("</title>", f"</title>\n    {HEAD}", 1)
    text = text.replace('<li id="nav-li-" class="active">', f'{BACK}<li id="nav-li-" class="active">', 1)
    text = text.replace("</body>", '<script src="more.js"></script>\n  </body>', 1)
    if "https://" in re.sub(r'<a href="https://[^"]*"', "", text):
        raise Failed("asv's page asks for something that the dashboard does not bring: is asv newer than 0.6?")
    index.write_text(text, encoding="utf-8")
    for folder in {graph.parent for graph in (pages / "graphs").rglob("*.json")} - {pages / "graphs" / "summary"}:
        for name in json.loads((pages / "index.json").read_text())["benchmarks"]:
            if not (graph := folder / f"{name}.json").exists():
                graph.write_text("[]")  # of a benchmark that only another machine has run: the page asks for it
    (pages / "vendor").mkdir()
    with as_file(files("convengine.dashboard")) as here:
        for name in (*map(_local, wanted), "LICENSES.md"):
            shutil.copy(here / "vendor" / name, pages / "vendor" / name)
        for name in ("more.css", "more.js"):
            shutil.copy(here / "assets" / name, pages / name)


def _local(name: str) -> str:
    return RENAMED.get(name, name)
