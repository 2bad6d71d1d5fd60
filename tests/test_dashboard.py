"""The dashboard: what is measured and kept, what its pages hold, what becomes of a folder that is no clone."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

pytest.importorskip("click", reason="the command line needs pip install 'convengine[cli]'")
pytest.importorskip("asv", reason="the dashboard needs pip install 'convengine[dashboard]'")
from command_line import ENTRY, done, refused
from dashboard_clone import git, make_clone, write_results

from convengine import dashboard
from convengine.dashboard import clone as clones
from convengine.dashboard import measuring
from convengine.dashboard.results import load

SLEEPER = """import os
import time


class Slow:
    def setup_cache(self):
        with open({}, "w") as file:
            file.write(str(os.getpid()))
        time.sleep(60)  # until it is interrupted

    def track_it(self, cache):
        return 1.0
"""


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A clone in which nothing was measured, as the working folder."""
    make_clone(tmp_path / "clone")
    monkeypatch.chdir(tmp_path / "clone")
    return dashboard.Clone.find(Path.cwd())


@pytest.fixture
def full(empty):
    """A clone that has results of both commits."""
    write_results(empty.store, git(empty.folder, "log", "--format=%H", "--reverse").split())
    return empty


@pytest.fixture
def selection(monkeypatch):
    """All that the small clone's benchmarks are."""
    monkeypatch.setitem(measuring.SELECTIONS, "quick", (".",))


def test_a_commit_is_measured_and_filed(empty, selection, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    steps = []
    assert not dashboard.is_measured(empty, "quick")
    dashboard.measure(empty, "quick", steps.append)
    assert dashboard.is_measured(empty, "quick")
    assert not dashboard.is_measured(empty, "full")
    assert sum(steps) == pytest.approx(1)
    (one,) = load(empty.store)
    assert one.commit == empty.commit
    assert one.values["nothing.Nothing.track_it"] == {(1,): 1.0}  # what raises NotImplementedError is not there
    assert set(one.values["nothing.Nothing.time_it"]) == {(1,)}
    kept = "".join(path.read_text() for path in empty.store.rglob("*") if path.is_file())
    assert sys.executable not in kept
    assert list((tmp_path / "home").iterdir()) == []  # asv would have left a file there
    assert git(empty.folder, "status", "--porcelain") == ""


def test_what_fails_is_told_and_the_rest_is_kept(empty, selection):
    text = (empty.benchmarks / "nothing.py").read_text()
    (empty.benchmarks / "nothing.py").write_text(text + "\n    def track_broken(self, number):\n        return 1 / 0\n")
    assert dashboard.measure(empty, "quick", lambda share: None) == ["nothing.Nothing.track_broken"]
    (one,) = load(empty.store)
    assert one.values["nothing.Nothing.track_broken"] == {}
    assert one.values["nothing.Nothing.track_it"] == {(1,): 1.0}


def test_an_interrupted_measurement_leaves_nothing_running(empty, selection, monkeypatch):
    pid_file = empty.folder / "pid"
    (empty.benchmarks / "nothing.py").write_text(SLEEPER.format(repr(str(pid_file))))

    def stop_when_it_sleeps():
        while not pid_file.is_file() or not pid_file.read_text():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=stop_when_it_sleeps).start()
    with pytest.raises(KeyboardInterrupt):
        dashboard.measure(empty, "quick", lambda share: None)
    pid = int(pid_file.read_text())
    until = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()
    assert not dashboard.is_measured(empty, "quick")


def test_two_dashboards_do_not_measure_at_once(empty):
    with measuring._alone(empty.folder / "lock"), pytest.raises(dashboard.Failed, match="another dashboard"):
        measuring._alone(empty.folder / "lock").__enter__()


def test_what_asv_says_when_it_fails_is_told(empty, selection):
    (empty.benchmarks / "nothing.py").write_text("import no_such_module\n")
    with pytest.raises(dashboard.Failed, match="no_such_module"):
        dashboard.measure(empty, "quick", lambda share: None)
    assert not dashboard.is_measured(empty, "quick")


def test_another_selection_adds_to_what_is_there():
    params = [["1", "2", "3"]]
    old = [[1.0, 2.0, 3.0], params, "1", 5, 6, [0.1, 0.2, 0.3]]
    new = [[0.5, None, 5.0], params, "1", 7, 8, [0.05, None, 0.5]]  # 2, which was asked for, failed
    merged = measuring._merged("a.time_it", old, new, [r"time_it\((2|3)\)"])
    assert merged == [[1.0, None, 5.0], params, "1", 7, 8, [0.1, None, 0.5]]
    assert measuring._merged("a.time_it", old, None, ["."]) == old
    other = [[4.0], [["1"]], "2", 7, 8, [0.4]]
    assert measuring._merged("a.time_it", old, other, ["."]) == other


def pages(clone, tmp_path):
    """Build the site; return its folder and its front page."""
    dashboard.build(clone, tmp_path / "site")
    return tmp_path / "site", (tmp_path / "site" / "index.html").read_text()


def test_the_front_page_answers(full, tmp_path):
    _, text = pages(full, tmp_path)
    for part in (
        "A &lt;CPU&gt;, 2 threads, Python 3.11",
        full.commit[:8],
        "The first &lt;commit&gt;",
        "Which backend for my size?",
        "<td class='bad'>0.67x</td>",  # ours takes 1.5 times as long as OpenCV in the slow commit
        '<th scope="row">image &lt;256&gt;</th>',
        "<td>n/a</td>",
        "<td>0.75</td>",
        "<td>exact</td>",
        "takes 6 us in all",
        "<td>3x</td>",
        f"{full.commit[:8]} A slower commit",
    ):
        assert part in text, part
    assert text.count("<svg") == 3
    assert len(re.findall(r'\bid="([^"]+)"', text)) == len(set(re.findall(r'\bid="([^"]+)"', text)))


def test_steps_of_others_and_of_other_machines_are_not_ours(full, tmp_path):
    _, text = pages(full, tmp_path)
    rows = re.findall(r'<th scope="row">(filters[^<]*)</th>', text)
    assert rows
    assert not any("opencv" in row for row in rows)
    for file in full.store.rglob("*.json"):
        file.unlink()
    commits = git(full.folder, "log", "--format=%H", "--reverse").split()
    (full.store / clones.machine()["machine"]).rmdir()
    write_results(full.store, commits, slow=1.0)
    write_results(full.history, commits, machine="reference", measured=10**9)  # later
    _, text = pages(full, tmp_path)
    assert f">{clones.machine()['machine']}: A &lt;CPU&gt;" in text
    assert "asv found no step up of ours on this machine." in text


def test_the_projects_figures_stand_in_for_ones_own(empty, tmp_path):
    write_results(empty.history, git(empty.folder, "log", "--format=%H", "--reverse").split(), machine="reference")
    _, text = pages(empty, tmp_path)
    assert "<p>reference: A &lt;CPU&gt;" in text
    assert "Nothing is measured on this machine yet" in text


def test_commits_that_the_clone_lacks_are_left_out(full, tmp_path):
    git(full.folder, "commit", "-q", "--allow-empty", "-m", "Lost")
    lost = git(full.folder, "rev-parse", "HEAD")
    write_results(full.history, [lost], machine="reference")
    git(full.folder, "reset", "-q", "--hard", "HEAD^")
    git(full.folder, "reflog", "expire", "--expire=now", "--all")
    git(full.folder, "gc", "-q", "--prune=now")
    site, _ = pages(full, tmp_path)
    assert "reference" not in json.loads((site / "asv" / "index.json").read_text())["machines"]


def test_an_older_commit_checked_out_hides_no_regression(full, tmp_path):
    git(full.folder, "checkout", "-q", "HEAD^")
    site, _ = pages(dashboard.Clone.find(full.folder), tmp_path)
    assert json.loads((site / "asv" / "regressions.json").read_text())["regressions"]


def test_a_damaged_result_is_named(full, tmp_path):
    (file,) = full.store.glob(f"*/{full.commit[:8]}*.json")
    file.write_text(file.read_text()[:1000])
    text = refused("dashboard", "--no-run", "--output", tmp_path / "site")
    assert text.startswith(f"{file.parent.name}/{file.name} holds no results of asv")


def test_one_commit_has_nothing_to_compare(full, tmp_path):
    for file in full.store.glob("*/*.json"):
        if file.name != "machine.json" and not file.name.startswith(full.commit[:8]):
            file.unlink()
    _, text = pages(full, tmp_path)
    assert "One commit is measured on this machine so far." in text
    assert "asv found no step up of ours" in text


def test_the_pages_need_no_network(full, tmp_path):
    site, front = pages(full, tmp_path)
    index = (site / "asv" / "index.html").read_text()
    for text, folder in ((front, site), (index, site / "asv")):
        for name in re.findall(r'<(?:script|img)[^>]*\bsrc="([^"]+)"|<link[^>]*\bhref="([^"]+)"', text):
            address = "".join(name)
            assert address.startswith("data:") or (folder / address).is_file(), address
    assert "Overview" in index
    graphs = json.loads((site / "asv" / "index.json").read_text())["benchmarks"]
    assert "overhead.Region.track_overhead" not in graphs  # its graph is not there: the page would ask in vain
    assert len(graphs) == 5


def test_a_slower_commit_is_a_regression(full, tmp_path):
    site, _ = pages(full, tmp_path)
    found = json.loads((site / "asv" / "regressions.json").read_text())["regressions"]
    names = {entry[0].partition("(")[0] for entry in found}
    assert {"filters.Images.time_call", "comparisons.Ratio.track_time", "overhead.SmallCall.time_call"} <= names
    assert not any(name.startswith("comparisons.Accuracy") for name in names)


def test_the_projects_history_is_shown_beside_ones_own(full, tmp_path):
    write_results(full.history, git(full.folder, "log", "--format=%H", "--reverse").split(), machine="reference")
    site, _ = pages(full, tmp_path)
    machines = json.loads((site / "asv" / "index.json").read_text())["machines"]
    assert set(machines) == {clones.machine()["machine"], "reference"}


def test_only_a_site_is_replaced(full, tmp_path):
    site, _ = pages(full, tmp_path)
    (site / "old").touch()
    pages(full, tmp_path)
    assert not (site / "old").exists()
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.txt").touch()
    assert refused("dashboard", "--no-run", "--output", taken).startswith(f"{taken}: there is something else")
    assert [path.name for path in taken.iterdir()] == ["thesis.txt"]


def test_a_relative_folder_and_a_link(full, tmp_path, monkeypatch):
    monkeypatch.chdir(full.folder)
    assert "whole" in done("dashboard", "--no-run", "--output", "pages/of mine")
    assert (full.folder / "pages" / "of mine" / "index.html").is_file()
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    dashboard.build(full, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "index.html").is_file()


@pytest.mark.parametrize("where", [".asv/results", ".asv/results/site", "asv_bench/results/site"])
def test_results_are_no_place_for_a_site(full, where):
    assert "results are kept there" in refused("dashboard", "--no-run", "--output", where)


def test_a_site_that_cannot_be_put_in_its_place_leaves_the_old_one(full, tmp_path, monkeypatch):
    site, _ = pages(full, tmp_path)
    (site / "old").touch()
    rename = Path.rename

    def renamed(path, target):
        if path.name == "site" and Path(target) == site and path != site:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", renamed)
    with pytest.raises(KeyboardInterrupt):
        dashboard.build(full, site)
    assert (site / "old").exists()


def test_what_cannot_end_well_is_said_before_measuring(empty, tmp_path, monkeypatch):
    monkeypatch.setattr(dashboard, "measure", lambda *_: pytest.fail("measured"))
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").touch()
    assert "there is something else" in refused("dashboard", "--output", tmp_path / "taken")
    with dashboard.server_of(tmp_path, 0) as server:
        port = server.server_address[1]
        assert refused("dashboard", "--port", port).startswith(f"port {port} of 127.0.0.1 can't be had: ")


def test_a_build_that_fails_leaves_what_was_there(full, tmp_path, monkeypatch):
    site, _ = pages(full, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in site.rglob("*")}
    monkeypatch.setattr("convengine.dashboard.site.page", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        dashboard.build(full, site)
    assert {path: path.stat().st_mtime_ns for path in site.rglob("*")} == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_command_measures_what_is_missing(empty, selection, tmp_path, monkeypatch):
    from convengine.cli import dashboard as command

    runs = []
    monkeypatch.setattr(dashboard, "measure", lambda clone, selection, advance: runs.append(selection) or ["a.time_it"])
    monkeypatch.setattr(dashboard, "build", lambda clone, target: None)
    result = done_but_told("dashboard", "--output", tmp_path / "site")
    assert f"measuring commit {empty.commit[:8]}: {command.MINUTES['quick']}" in result
    assert "as they failed: a.time_it; --again" in result
    monkeypatch.setattr(dashboard, "is_measured", lambda clone, selection: True)
    assert "whole" in done("dashboard", "--output", tmp_path / "site")
    done_but_told("dashboard", "--again", "--full", "--output", tmp_path / "site")
    assert runs == ["quick", "full"]
    assert "differs" not in result


@pytest.mark.parametrize("what", ["sources", "installation"])
def test_what_is_not_the_commit_is_said(empty, tmp_path, monkeypatch, what):
    monkeypatch.setattr(dashboard, "measure", lambda clone, selection, advance: [])
    monkeypatch.setattr(dashboard, "build", lambda clone, target: None)
    if what == "sources":
        (empty.folder / "text").write_text("changed")
    else:
        (empty.folder / "convengine").mkdir()
        (empty.folder / "convengine" / "errors.py").write_text("# of another commit")
        git(empty.folder, "add", "-A")
        git(empty.folder, "commit", "-q", "-m", "Another")
    commit = git(empty.folder, "rev-parse", "HEAD")
    told = done_but_told("dashboard", "--output", tmp_path / "site")
    assert f"what is installed differs from commit {commit[:8]}, as which it counts" in told


def done_but_told(*arguments):
    """Run a command that succeeds; return what it said on stderr."""
    from command_line import convengine

    result = convengine(*arguments)
    assert result.exit_code == 0, result.output
    return result.stderr


def test_what_is_no_clone_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(clones, "__file__", str(tmp_path / "convengine" / "dashboard" / "clone.py"))
    assert refused("dashboard").startswith("the dashboard needs a clone of the project")
    (tmp_path / "asv_bench").mkdir()
    for other in ("{}", "// a comment", '{"project": "pandas"}'):
        (tmp_path / "asv_bench" / "asv.conf.json").write_text(other)
        assert refused("dashboard").startswith("the dashboard needs a clone of the project")
    (tmp_path / "asv_bench" / "asv.conf.json").write_text('{"project": "convengine"}')
    assert "is no clone with a history" in refused("dashboard")
    monkeypatch.setenv("PATH", "")
    assert "needs git" in refused("dashboard")


def test_nothing_measured_is_nothing_to_show(empty, tmp_path):
    text = refused("dashboard", "--no-run", "--output", tmp_path / "site")
    assert text == "nothing is measured yet: run 'convengine dashboard' without --no-run"
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize("missing", ["asv", "matplotlib"])
def test_a_library_that_lacks_is_named(empty, monkeypatch, missing):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None if name == missing else find(name))
    assert refused("dashboard") == f"the dashboard needs {missing}: pip install 'convengine[dashboard]'"


def test_it_serves_until_ctrl_c(full):
    command = [*ENTRY, "dashboard", "--no-run", "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0) as ran:
        address = ran.stdout.readline().split()[0]
        assert address.startswith("http://127.0.0.1:")
        with urlopen(address) as answer:
            assert b"Which backend for my size?" in answer.read()
        os.kill(ran.pid, signal.SIGINT)
        assert (ran.wait(20), ran.stderr.read()) == (0, "")
