"""Makes the pages: asv's own, which then need no network, and the front page before them."""

import json
import re
import shutil
import tempfile
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from convengine.dashboard.clone import Clone
from convengine.dashboard.front import page
from convengine.dashboard.measuring import Failed, configuration, run_asv
from convengine.dashboard.results import load

__all__ = ["MARK", "build"]

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
    if target.exists() and not (target / MARK).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(17, "there is something else; name a new folder", str(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as name:
        folder = Path(name)
        site = folder / "site"
        results = folder / "results_dir"
        _gather(results, clone.history, clone.store)
        if not (results / "benchmarks.json").is_file():
            raise Failed("nothing is measured yet: run 'convengine dashboard' without --no-run")
        run_asv(["publish", "--no-pull", "--config", str(configuration(clone, folder))], folder, lambda share: None)
        site.mkdir()
        (folder / "html_dir").rename(site / "asv")
        _complete(site / "asv")
        regressions = json.loads((site / "asv" / "regressions.json").read_text())["regressions"]
        measured = load(results)
        subjects = clone.subjects([one.commit for one in measured])
        (site / "index.html").write_text(page(measured, regressions, subjects), encoding="utf-8")
        (site / MARK).write_text("made by 'convengine dashboard', which may replace this folder\n")
        site.chmod(0o755)
        if target.exists():
            target.rename(folder / "before")
        site.rename(target)


def _gather(results: Path, *sources: Path) -> None:
    """Copy the results of all sources into one folder; of two lists of benchmarks the last one's entries stay.

    A benchmark that nobody has run is left out: asv's page would ask for its graph, which is not there.
    """
    results.mkdir()
    benchmarks: dict[str, Any] = {}
    for source in sources:
        if source.is_dir():
            shutil.copytree(source, results, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.done", "*.partial"))
            if (source / "benchmarks.json").is_file():
                benchmarks |= json.loads((source / "benchmarks.json").read_text())
    found = {name for one in load(results) for name, cases in one.values.items() if cases} | {"version"}
    if benchmarks:
        known = {name: values for name, values in benchmarks.items() if name in found}
        (results / "benchmarks.json").write_text(json.dumps(known))


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
    (pages / "vendor").mkdir()
    with as_file(files("convengine.dashboard")) as here:
        for name in (*map(_local, wanted), "LICENSES.md"):
            shutil.copy(here / "vendor" / name, pages / "vendor" / name)
        for name in ("more.css", "more.js"):
            shutil.copy(here / "assets" / name, pages / name)


def _local(name: str) -> str:
    return RENAMED.get(name, name)
