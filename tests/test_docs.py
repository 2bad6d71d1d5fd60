"""The documentation: its examples run, its tables tell the truth, its reference is complete. Without Sphinx."""

import ast
import csv
import doctest
import importlib
import re
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from installing import installed, lay_down
from PIL import Image

import convengine as ce
from convengine import config, tuning
from convengine.bench import Run
from convengine.boundary import Boundary
from convengine.cli.application import application
from convengine.native import cpu
from convengine.testing import covering_cases, subjects
from convengine.testing.runner import run

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {
    path.relative_to(DOCS).as_posix(): path
    for path in sorted(DOCS.rglob("*.md"))
    if not {"_build", "auto_tutorial"} & set(path.parts)
}
TUTORIAL = sorted((DOCS / "tutorial").glob("*.py"))  # sphinx-gallery makes pages of them, in auto_tutorial
FENCE = re.compile(r"^```.*$", re.MULTILINE)
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def text_of(page: str) -> str:
    return PAGES[page].read_text(encoding="utf-8")


def blocks(text: str, *languages: str) -> list[str]:
    """What stands between fences of these languages."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [code for language, code in found if language in languages]


def rows(name: str) -> list[list[str]]:
    """A table of the guide without its header and without the marks of code."""
    with (DOCS / "guide" / name).open(encoding="utf-8", newline="") as file:
        return [[cell.replace("`", "") for cell in row] for row in csv.reader(file)][1:]


# ---- examples


LIBRARIES = {"guide/torch.md": "torch", "guide/jax.md": "jax"}  # what a page is about, and the engine does not need


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page_run(page: str) -> None:
    if library := LIBRARIES.get(page):
        pytest.importorskip(library, reason=f"{page} is about {library}, which is not installed")
    text = FENCE.sub("", text_of(page))  # a closing fence is no output; lines keep their numbers
    test = doctest.DocTestParser().get_doctest(text, {}, page, str(PAGES[page]), 0)
    report: list[str] = []
    with ce.options(backend=("cython", "fft", "scipy")):  # other backends, where installed, may not show in the pages
        outcome = doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=report.append)
    assert outcome.failed == 0, "".join(report)


@pytest.mark.parametrize("page", PAGES)
def test_python_on_a_page_is_a_session_that_runs(page: str) -> None:
    for code in blocks(text_of(page), "python", "py", "pycon"):
        assert code.startswith(">>> "), f"this block is run by no test; write it as a session:\n{code}"


def command_lines() -> Iterator[str]:
    for page in PAGES:
        for code in blocks(text_of(page), "sh"):
            yield from (line for line in code.splitlines() if line.startswith("convengine "))
    for program in TUTORIAL:
        yield from re.findall(r"^# +(convengine .+)$", program.read_text(encoding="utf-8"), re.MULTILINE)


BENCHMARKS = {line for line in command_lines() if line.startswith("convengine bench")}


@pytest.mark.parametrize("line", sorted(BENCHMARKS))
def test_a_benchmark_on_a_page_is_one_that_would_run(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cpu, "levels", lambda: ("avx512", "avx2", "baseline"))
    started: list[Run] = []
    monkeypatch.setattr(Run, "report", lambda run, *_: started.append(run) or sys.exit(0))
    with pytest.raises(SystemExit) as ended:
        application.main(shlex.split(line)[1:])
    assert (ended.value.code, len(started)) == (0, 1)
    assert started[0].turns > 0


DASHBOARDS = {line for line in command_lines() if line.startswith("convengine dashboard")}


@pytest.mark.parametrize("line", sorted(DASHBOARDS))
def test_a_dashboard_on_a_page_is_one_that_would_be_made(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dashboard = pytest.importorskip("convengine.dashboard", reason="the dashboard needs matplotlib")
    monkeypatch.chdir(tmp_path)
    made: list[str] = []
    clone = dashboard.Clone(ROOT, "0" * 40)  # an installed convengine knows none, and a source distribution has no git
    monkeypatch.setattr(dashboard.Clone, "find", lambda start: clone)
    monkeypatch.setattr(dashboard, "is_measured", lambda *_: True)
    monkeypatch.setattr(dashboard, "measure", lambda *_: made.append("measured"))
    monkeypatch.setattr(dashboard, "build", lambda *_: made.append("built"))
    monkeypatch.setattr(dashboard, "serve", lambda *_, **__: made.append("served"))
    with pytest.raises(SystemExit) as ended:
        application.main(shlex.split(line)[1:])
    assert ended.value.code == 0
    assert "built" in made


MEASUREMENTS = {line for line in command_lines() if line.startswith("convengine tune")}


@pytest.mark.usefixtures("own_prices")
@pytest.mark.parametrize("line", sorted(MEASUREMENTS))
def test_a_measurement_on_a_page_is_one_that_would_run(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "_grid", lambda: [tuning.Case((16, 16), (3, 3), "float32", 1)])
    checks = tuning.check
    monkeypatch.setattr(tuning, "check", lambda *, problems, **others: checks(problems=problems // 300, **others))
    with pytest.raises(SystemExit) as ended:
        application.main(shlex.split(line)[1:])
    assert ended.value.code == 0


# test_cli_demo runs the demonstration, test_dashboard the dashboard
@pytest.mark.parametrize(
    "line", sorted(set(command_lines()) - {"convengine demo"} - BENCHMARKS - DASHBOARDS - MEASUREMENTS)
)
def test_a_command_line_on_a_page_runs(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    picture = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    Image.fromarray(picture).save("photo.jpg")
    Image.fromarray(picture).save("photo.png")
    tifffile.imwrite("scan.tif", picture[..., 0].astype(np.uint16) * 257)
    np.save("signal.npy", picture[0, :, 0].astype(np.float32))
    np.save("weights.npy", np.array([0.25, 0.5, 0.25], np.float32))
    before = set(Path().iterdir())
    with pytest.raises(SystemExit) as ended:
        application.main(shlex.split(line)[1:])
    assert ended.value.code == 0
    written = {path.name for path in set(Path().iterdir()) - before}
    assert written == ({shlex.split(line)[3]} if " filter " in line else set())


def test_the_two_commands_are_those_of_the_readme() -> None:
    readme = "".join(blocks((ROOT / "README.md").read_text(encoding="utf-8"), "sh"))
    assert "".join(blocks(text_of("index.md"), "sh")).splitlines() == readme.splitlines()[:2]


# ---- the tutorial, which the documentation's build runs


@pytest.mark.parametrize("program", TUTORIAL, ids=lambda program: program.stem)
def test_a_program_of_the_tutorial_compiles_and_checks_what_it_says(program: Path) -> None:
    tree = ast.parse(program.read_text(encoding="utf-8"), str(program))
    compile(tree, str(program), "exec")
    checks = [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    assert len(checks) >= 3, "an assert should stand beside each figure of the text"


def test_the_tutorial_is_numbered_without_gaps_and_all_of_it_is_run() -> None:
    assert TUTORIAL
    settings = (DOCS / "conf.py").read_text(encoding="utf-8")
    gallery = next(
        ast.literal_eval(node.value)
        for node in ast.parse(settings).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "sphinx_gallery_conf"
    )
    assert gallery["within_subsection_order"] == "FileNameSortKey"
    for number, program in enumerate(TUTORIAL, start=1):
        assert re.match(rf"{number}_[a-z_]+\.py$", program.name)
        assert re.search(gallery["filename_pattern"], str(program))  # or it would be shown, and not run
        heading = str(ast.get_docstring(ast.parse(program.read_text(encoding="utf-8")))).splitlines()[0]
        assert heading.startswith(f"{number}. ")
    assert f"{gallery['gallery_dirs']}/index" in text_of("index.md")


# ---- borders

SAMPLES = np.array([1.0, 2.0, 3.0, 4.0])
PAD = 3


def shifted(correlate: Callable[[Any, Any], Any]) -> Any:
    """What stands at the padded positions, seen by a function that keeps the size of x."""
    taps = np.eye(2 * PAD + 1)  # tap i alone sees the sample i - PAD places on
    return [*(correlate(SAMPLES, tap)[0] for tap in taps[:PAD]), *(correlate(SAMPLES, tap)[-1] for tap in taps)]


def pad_ndimage(word: str) -> Any:
    from scipy import ndimage

    return shifted(lambda x, k: ndimage.correlate(x, k, mode=word))


def pad_signal(word: str) -> Any:
    from scipy import signal

    return shifted(lambda x, k: signal.correlate2d(x[None], k[None], "same", word)[0])


def pad_opencv(word: str) -> Any:
    cv2 = importlib.import_module("cv2")
    return cv2.copyMakeBorder(SAMPLES[None], 0, 0, PAD, PAD, getattr(cv2, word))[0]


def pad_torch(word: str) -> Any:
    torch = importlib.import_module("torch")
    return torch.nn.functional.pad(torch.tensor(SAMPLES)[None, None], (PAD, PAD), mode=word)[0, 0].numpy()


def pad_torch_layer(word: str) -> Any:
    torch = importlib.import_module("torch")
    layer = torch.nn.Conv1d(1, 1, 1, padding=PAD, padding_mode=word, bias=False, dtype=torch.float64)
    layer.weight.data[:] = 1
    return layer(torch.tensor(SAMPLES)[None, None]).detach()[0, 0].numpy()


def pad_dask(word: str) -> Any:
    array = importlib.import_module("dask.array")
    return array.overlap.overlap(array.from_array(SAMPLES, chunks=4), PAD, 0 if word == "a number" else word).compute()


PADDERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "convengine": ("convengine", lambda word: ce.corr1d(SAMPLES, [1.0], padding=PAD, boundary=word)),
    "numpy.pad": ("numpy", lambda word: np.pad(SAMPLES, PAD, word)),
    "scipy.ndimage": ("scipy", pad_ndimage),
    "scipy.signal, 2-D": ("scipy", pad_signal),
    "OpenCV": ("cv2", pad_opencv),
    "torch.nn.functional.pad": ("torch", pad_torch),
    "torch.nn.Conv2d": ("torch", pad_torch_layer),
    "jax.numpy.pad": ("jax", lambda word: importlib.import_module("jax.numpy").pad(SAMPLES, PAD, word)),
    "dask.array.map_overlap": ("dask.array", pad_dask),
}
FROM_DOCUMENTATION = {"MATLAB imfilter", "ImageFiltering.jl"}  # not in Python


@pytest.mark.parametrize("row", rows("border-names.csv"), ids=lambda row: row[0])
def test_border_names_of_other_libraries(row: list[str]) -> None:
    library, *cells = row
    assert len(cells) == len(Boundary)
    if library in FROM_DOCUMENTATION:
        pytest.skip(f"{library} is not a Python library: its row is from its documentation")
    module, padded = PADDERS[library]
    pytest.importorskip(module, reason=f"compares with {module}")
    for rule, cell in zip(Boundary, cells, strict=True):
        words = re.findall(r'"([\w-]+)"|(BORDER_\w+)|(a number)', cell)
        assert words or cell == "none"
        for word in map("".join, words):
            wanted = np.pad(SAMPLES, PAD, rule.value)
            np.testing.assert_array_equal(padded(word), wanted, f"{library}: {word!r} is not our {rule.value!r}")


# ---- which sample lies on the result


def two(image: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """A function of (N, C, H, W) arrays as one of images."""
    return lambda x, k: np.asarray(image(x[None, None].astype(np.float32), k[None, None].astype(np.float32)))[0, 0]


def torch_same(x: Any, k: Any) -> Any:
    torch = importlib.import_module("torch")
    return torch.nn.functional.conv2d(torch.tensor(x), torch.tensor(k), padding="same").numpy()


NAMES: dict[str, Callable[[Any, Any], Any]] = {
    "numpy.correlate": lambda x, k: np.correlate(x, k, "same"),
    "numpy.convolve": lambda x, k: np.convolve(x, k, "same"),
    "cv2.filter2D": lambda x, k: importlib.import_module("cv2").filter2D(x, -1, k, borderType=0),
    "torch.nn.functional.conv2d": two(torch_same),
    "jax.lax.conv": two(lambda x, k: importlib.import_module("jax.lax").conv(x, k, (1, 1), "SAME")),
}


def function_named(name: str) -> Callable[[Any, Any], Any]:
    """The function of a row, padding with zeros."""
    if name in NAMES:
        return NAMES[name]
    module, _, attribute = name.rpartition(".")
    function = getattr(importlib.import_module(module), attribute)
    how = {"mode": "constant"} if "ndimage" in module else {"mode": "same"}
    return lambda x, k: function(x, k, **how)


@pytest.mark.filterwarnings(
    "ignore:Using padding='same' with even kernel:UserWarning"
)  # PyTorch's, for each even kernel
@pytest.mark.parametrize("row", rows("centers.csv"), ids=lambda row: row[0])
def test_centers_of_other_libraries(row: list[str]) -> None:
    call, ours, center = row
    name = call.partition("(")[0]
    if name in {"MATLAB imfilter", "ImageFiltering.jl imfilter"}:
        pytest.skip(f"{name} is not a Python function: its row is from its documentation")
    library = name.partition(".")[0]
    pytest.importorskip(library, reason=f"compares with {library}")
    theirs, ndim = function_named(name), int(ours[4])
    rng = np.random.default_rng(0)
    for width in (2, 3, 4, 5, 6):
        x, k = (rng.integers(1, 9, (size,) * ndim).astype(np.float64) for size in (9, width))
        said = {} if center == "default" else {"center": (eval(center, {"k_eff": width}),) * ndim}
        result = getattr(ce, ours)(x, k, mode="same", **said)
        np.testing.assert_allclose(np.asarray(theirs(x, k)), result, rtol=1e-6, err_msg=f"{call}, kernel {width} wide")


# ---- the plug-in of the guide


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[None]:
    source = (DOCS / "examples" / "plain_backend.py").read_text(encoding="utf-8")
    with installed(lay_down(tmp_path / "plain", "plain", "plain", source)):
        yield


@pytest.mark.usefixtures("plain")
def test_the_guides_plug_in_is_right() -> None:
    cases = covering_cases()
    for group in (subjects.exact(), subjects.poisoned(), subjects.delicate()):
        cases += group.values()
    results = run("plain", cases)
    assert [result.reason for result in results if result.outcome != "held"] == []
    assert len(results) > 350


@pytest.mark.usefixtures("plain")
def test_the_guides_plug_in_refuses_and_is_chosen_like_any() -> None:
    assert ce.backends()["plain"].usable
    chosen = ce.explain(np.ones((4, 4)), np.ones((2, 2)), backend="plain").chosen
    assert chosen is not None and chosen.method == "shifted views"


def test_the_guides_plug_in_is_short_and_its_metadata_name_it() -> None:
    source = (DOCS / "examples" / "plain_backend.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) < 60
    project = tomllib.loads((DOCS / "examples" / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["entry-points"]["convengine.backends"] == {"plain": "plain_backend:Backend"}
    exam = (DOCS / "examples" / "test_plain_backend.py").read_text(encoding="utf-8")
    assert "(BackendContract):" in exam and 'name = "plain"' in exam


# ---- completeness


PUBLIC = (
    "",
    ".filters",
    ".filters.named",
    ".nn",
    ".analysis",
    ".testing",
    ".testing.contract",
    ".plugin",
    ".adjoint",
    ".problem",
    ".errors",
    ".boundary",
    ".native",
)
PAGES_OF_THEIR_OWN = {"analysis", "filters", "interop", "named", "nn", "strategies", "testing"}


@pytest.mark.parametrize("module", PUBLIC)
def test_the_reference_has_every_public_name(module: str) -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.rst"))
    entries = re.findall(r"^(?:   |\.\. py:data:: )([\w.]+)$", text, re.MULTILINE)
    listed = {entry.rpartition(".")[2] for entry in entries}
    public = importlib.import_module(f"convengine{module}").__all__
    assert set(public) - listed - PAGES_OF_THEIR_OWN == set()


def test_the_guide_has_every_option_and_its_environment_variable() -> None:
    page = text_of("guide/backends.md")
    for variable, option in config.ENVIRONMENT.items():
        assert re.search(rf"^\| `{option}` \| `{variable}=", page, re.MULTILINE)
    assert "CONVENGINE_ISA=" in page


def test_the_pictures_of_the_borders_are_what_the_rules_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS / "_sphinx"))
    drawn = importlib.import_module("border_rules").drawn()
    sys.modules.pop("border_rules")
    for rule in drawn:
        fill = {"constant_values": ord("f")} if rule.word == "constant" else {}
        letters = np.pad(np.array(list(b"abcd")), PAD, mode=rule.word, **fill)
        assert rule.picture.replace("| ", "") == " ".join(map(chr, letters))
    assert [rule.word for rule in drawn] == [rule.value for rule in Boundary]
