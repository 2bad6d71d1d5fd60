"""The demonstration, `convengine demo`, and its photographs."""

import json
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

import convengine as ce

pytest.importorskip("click", reason="the command line needs pip install 'convengine[cli]'")
from command_line import (
    convengine,
    done,
    leftovers,
    refused,
)
from PIL import Image


@pytest.mark.parametrize("file", ["camera.png", "astronaut.png"])
def test_the_photographs_are_in_the_installed_package(file):
    assert (resources.files("skimage") / "data" / file).is_file()


def test_demo_draws_and_tells(here):
    told = json.loads(done("demo", "--json"))
    from convengine.cli.figure import HEIGHT, WIDTH

    assert told["ok"] is True
    assert told["picture"] == "demo.png"
    with Image.open("demo.png") as picture:
        picture.load()
        assert (picture.format, picture.size) == ("PNG", (WIDTH, HEIGHT))
        samples = np.asarray(picture.convert("RGB")).astype(int)
    assert samples.std() > 40
    assert np.abs(samples[..., 0] - samples[..., 2]).max() > 100  # the second photograph is in colour
    usable = [name for name, info in ce.backends().items() if info.usable]
    answered = [line for line in told["lines"] if line["seconds"] is not None]
    assert {line["backend"] for line in told["lines"]} == set(usable)
    assert {line["operation"] for line in answered} == {
        "blur", "sharpen", "edge detector", "Sobel x", "Sobel y", "sharpen, RGB"
    }  # fmt: skip
    for line in answered:
        assert 0 <= line["error"] <= 1
        assert line["seconds"] > 0
        if line["operation"] == "edge detector":
            assert (line["bound"], line["error"], line["difference"] or 0) == ("exact", 0, 0)
    assert set(told["fastest"].values()) <= set(usable)
    assert leftovers(here) == []


def test_demo_prints_a_table(here, monkeypatch):
    from convengine.cli import demo

    monkeypatch.setattr(demo, "OPERATIONS", demo.OPERATIONS[1:3])
    monkeypatch.setattr(demo, "CALLS", 1)
    lines = done("demo", "--output", "picture.png", "--backend", "cython,fft").splitlines()
    assert lines[0].split("  ")[0] == "operation"
    assert lines[0].endswith("differs by")
    assert lines[1].startswith("sharpen        cython   direct, ")
    assert lines[-2].startswith("fastest: ")
    assert lines[-2].endswith("of 2 operations")
    assert lines[-1] == "picture: picture.png"
    assert Path("picture.png").is_file()


def test_demo_ends_with_1_when_an_answer_is_wrong(here, monkeypatch):
    from convengine.cli import demo

    true = ce.corr2d

    def wrong(x, kernel, *, backend=None, **how):
        y = true(x, kernel, backend=backend, **how)
        if backend == "fft":
            y[5, 5] += 1
        return y

    monkeypatch.setattr(demo, "OPERATIONS", demo.OPERATIONS[1:2])
    monkeypatch.setattr(ce, "corr2d", wrong)
    result = convengine("demo", "--backend", "cython,fft", "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["ok"] is False
    assert [line["failed"] for line in told["lines"]] == [False, True]
    assert told["lines"][1]["fault"].startswith("WRONG: output (5, 5) must be ")
    assert told["fastest"] == {"sharpen": "cython"}


def test_demo_refuses(here):
    assert refused("demo", "--output", "demo.jpg") == "demo.jpg: the picture is a PNG; give a name that ends in .png"
    assert refused("demo", "--backend", "none").startswith("no backend is called 'none'; installed: ")
    assert refused("demo", "--output", "no/demo.png") == f"no/demo.png: there is no folder {here}/no"
