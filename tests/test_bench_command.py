"""The command that measures: what it prints and writes, what it refuses, who is right, wrong, broken and absent."""

import json

import pytest
from command_line import RUNNER, application, done, leftovers, refused

import convengine as ce
from convengine import bench
from convengine.bench.peers import PEERS, Peer
from convengine.native import cpu

FAKES = {
    name: Peer(f"bench_peers:{name.capitalize()}", ("numpy",), name)
    for name in ("right", "chatty", "wrong", "refuses", "raises", "dies", "unloadable")
} | {"absent": Peer("bench_peers:Absent", ("no_such_module",), "no-such-package")}


@pytest.fixture
def fakes():
    """Take the fakes for the libraries."""
    known = dict(PEERS)
    PEERS.clear()
    PEERS.update(FAKES)
    yield
    PEERS.clear()
    PEERS.update(known)


def test_the_command_tells_who_is_right_wrong_broken_and_absent(fakes, tmp_path):
    json_file, picture = tmp_path / "all.json", tmp_path / "all.png"
    result = RUNNER.invoke(application, [
        "bench", "--sizes", "24", "--widths", "3,5", "--threads", "1", "--rounds", "3", "--seconds", "0.002",
        "--methods", "auto,cython/direct", "--json", str(json_file), "--plot", str(picture),
    ])  # fmt: skip
    assert result.exit_code == 1, result.output  # a wrong answer
    told = json.loads(json_file.read_text())
    assert set(told) == {
        *("command", "machine", "settings", "versions", "missing", "others", "comparisons", "summary", "memory"),
        *("limits", "regions", "ok"),
    }
    assert told["command"].startswith("convengine bench --sizes 24 --widths 3,5")
    assert (told["missing"], told["ok"]) == ({"absent": "pip install no-such-package"}, False)
    assert {name: told["versions"][name] for name in ("right", "chatty")} == {
        "right": "Right 1.0", "chatty": "Chatty 1.0"
    }  # fmt: skip
    assert [one["title"] for one in told["comparisons"]] == ["float32 24x24 * 3x3", "float32 24x24 * 5x5"]
    for one in told["comparisons"]:
        found = {entry["name"]: entry for entry in one["entries"]}
        assert {name: entry["status"] for name, entry in found.items()} == {
            "convengine": "ok", "cython/direct": "ok", "right": "ok", "chatty": "ok", "wrong": "wrong",
            "refuses": "refused", "raises": "failed", "dies": "failed", "unloadable": "failed",
        }  # fmt: skip
        assert len(found["right"]["seconds"]) == len(found["convengine"]["seconds"]) == 3
        assert found["right"]["routes"] == {"best": 3}
        assert [text.partition(":")[0] for text in found["right"]["skipped"]] == ["endless", "broken"]
        assert 0 < found["right"]["error"] <= 1
        assert one["best_peer"] in ("right", "chatty")
        assert len(one["limits"]["copy_seconds"]) == 3
        (rates,) = one["limits"]["flops"].values()
        assert len(rates) == 3
        ratio = found["convengine"]["best_peer_over_this"]
        assert ratio["least"] <= ratio["median"] <= ratio["most"]
    lines = result.stdout.splitlines()
    assert lines[0] == "chosen:"
    assert lines[1].split()[:4] == ["problem", "ours", "time", "method"]
    assert lines[2].startswith("float32 24x24 * 3x3  convengine ")
    assert " failed " in lines[2]
    assert " wrong " in lines[2]
    assert lines[3].split()[0] == "cython/direct"
    for text in (
        "chosen: convengine leads the best peer ",
        "wrong: wrong, float32 24x24 * 3x3: best: result ",
        "failed: dies, float32 24x24 * 5x5: ended with exit code 3: fatal: core melted",
        "failed: raises, float32 24x24 * 3x3: RuntimeError: out of; order",
        "not taking part: refuses: has no float32",
        "not installed: absent (pip install no-such-package)",
        "right (Right 1.0): best",
    ):
        assert any(line.startswith(text) for line in lines), text
    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert leftovers(tmp_path) == []


def test_json_alone_and_the_suites_that_time_nothing():
    told = json.loads(done(
        "bench", "--suite", "limits", "--suite", "pool", "--suite", "memory", "--sizes", "64", "--widths", "3",
        "--seconds", "0.002", "--threads", "1", "--peers", "none", "--json", "-",
    ))  # fmt: skip
    assert told["comparisons"] == []
    assert {line["level"] for line in told["limits"]["peaks"]} == set(cpu.levels())
    assert all(line["flops"] > 0 for line in told["limits"]["peaks"])
    assert {line["nbytes"] for line in told["limits"]["copies"]} == {4 * 64 * 64}
    assert [line["pause"] for line in told["regions"]] == ["at once", "after 20 us", "after 1 ms, asleep"]
    (line,) = told["memory"]
    assert (line["title"], line["name"]) == ("float32 64x64 * 3x3", "convengine")


def test_tables_of_limits_memory_and_regions():
    result = RUNNER.invoke(application, [
        "bench", "--suite", "limits", "--suite", "pool", "--suite", "memory", "--sizes", "64", "--widths", "3",
        "--seconds", "0.002", "--threads", "1", "--peers", "none",
    ])  # fmt: skip
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    heads = ("memory beside x and out", "level", "copied", "parallel region")
    assert [line.startswith(head) for head in heads for line in lines].count(True) == 4
    assert lines[-1].startswith(f"convengine {ce.__version__}, ")


def test_the_command_refuses_before_it_works(tmp_path):
    assert "needed are whole numbers with commas between" in refused("bench", "--widths", "3,x")
    assert "needed are whole numbers" in refused("bench", "--sizes", "0")
    assert "needed is one of all, none, opencv" in refused("bench", "--peers", "matlab")
    assert "needed is one of auto, " in refused("bench", "--methods", "magic/direct")
    assert f"needed is one of {', '.join(cpu.levels())}" in refused("bench", "--isa", "mmx")
    assert "this process may use" in refused("bench", "--threads", "4096")
    assert "a signal must be as long as its kernel" in refused("bench", "--suite", "signals", "--sizes", "3")
    assert "has float32 and float64" in refused("bench", "--suite", "gaussian", "--dtypes", "uint8")
    assert "--plot draws times" in refused("bench", "--suite", "limits", "--plot", tmp_path / "a.png")
    assert "the picture is a PNG" in refused("bench", "--plot", tmp_path / "a.jpg")
    assert "there is no folder" in refused("bench", "--json", tmp_path / "no" / "a.json")


def test_a_long_run_says_so_first(monkeypatch, fakes):
    monkeypatch.setattr(bench.Run, "report", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    result = RUNNER.invoke(application, ["bench", "--suite", "direct", "--peers", "right"])
    assert result.exit_code == 130
    assert result.stderr.splitlines()[0].startswith("about 2 min or more: 225 turns and")
