"""What a wheel holds: every compiled module, stubs, the dashboard's files; no sources, no tests, nothing stale.

Building one takes minutes: CONVENGINE_WHEEL names one that is built, as .ci/run does.
"""

import os
import re
import zipfile
from pathlib import Path, PurePosixPath

import pytest

WHEEL = os.environ.get("CONVENGINE_WHEEL", "")
pytestmark = pytest.mark.skipif(not WHEEL, reason="set CONVENGINE_WHEEL to the path of a wheel")
ROOT = Path(__file__).parents[1]
BACKENDS = ("cython", "scipy", "fft", "cupy", "torch")
PACKAGES = ("convengine", *(f"convengine_{name}" for name in BACKENDS))


@pytest.fixture(scope="module")
def names():
    with zipfile.ZipFile(WHEEL) as wheel:
        return [PurePosixPath(name) for name in wheel.namelist()]


@pytest.fixture(scope="module")
def texts():
    """The wheel's own files."""
    with zipfile.ZipFile(WHEEL) as wheel:
        own = [name for name in wheel.namelist() if ".dist-info/" in name]
        return {PurePosixPath(name).name: wheel.read(name).decode() for name in own}


def test_every_package_and_nothing_else(names):
    tops = {name.parts[0] for name in names if ".dist-info" not in name.parts[0]}
    assert tops == {*PACKAGES, "_convengine_entry.py"}


def test_every_compiled_module(names):
    compiled = sorted(str(name).partition(".")[0] for name in names if name.suffix == ".so")
    in_place = [
        path.relative_to(ROOT / source).as_posix().partition(".")[0]
        for source in (".", "backends")
        for package in PACKAGES
        for path in (ROOT / source / package).rglob("*.so")
    ]
    if not in_place:
        pytest.skip("nothing is compiled in place to compare with")
    assert compiled == sorted(in_place)


def test_every_python_file(names):
    packed = {str(name) for name in names if name.suffix in (".py", ".pyi")} - {"_convengine_entry.py"}
    tree = {
        path.relative_to(ROOT / source).as_posix()
        for source in (".", "backends")
        for package in PACKAGES
        for path in (ROOT / source / package).rglob("*.py*")
        if path.suffix in (".py", ".pyi")
    }
    assert packed == tree


def test_no_sources_and_no_tests(names):
    left = [str(name) for name in names if name.suffix in (".pyx", ".pxi", ".c", ".cpp", ".o", ".pyc")]
    assert left == []


def test_what_is_no_code(names):
    held = {str(name) for name in names}
    assert {f"{package}/py.typed" for package in PACKAGES} <= held
    assert {"convengine/native/vector.h", "convengine/native/pool.pxd"} <= held  # for plug-ins that compile
    prices = {path.name for path in (ROOT / "convengine" / "prices").glob("*.json")}
    assert prices == {name.name for name in names if "prices" in name.parts and name.suffix != ".py"} != set()
    dashboard = ROOT / "convengine" / "dashboard"
    files = {path.name for folder in ("assets", "vendor") for path in (dashboard / folder).iterdir()}
    assert files == {name.name for name in names if "dashboard" in name.parts and name.suffix != ".py"}


def test_metadata(texts):
    metadata = texts["METADATA"]
    version = re.search(r'__version__ = "(.+)"', (ROOT / "convengine" / "_version.py").read_text())[1]
    assert f"\nVersion: {version}\n" in metadata
    assert "\nLicense-Expression: MIT\n" in metadata
    assert "\nRequires-Python: >=3.11\n" in metadata
    assert "MIT License" in texts["LICENSE"]
    assert "convengine = _convengine_entry:main" in texts["entry_points.txt"]
    for name in BACKENDS:
        assert f"{name} = convengine_{name}:Backend" in texts["entry_points.txt"]
