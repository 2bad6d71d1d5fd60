"""Installs distributions as far as the engine can tell: folders on sys.path that hold modules and their metadata."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import convengine as ce
from convengine import registry


@contextmanager
def installed(*folders: Path) -> Iterator[None]:
    """What lies in these folders is installed, inside a with block."""
    before = set(sys.modules)
    try:
        with pytest.MonkeyPatch.context() as patch:
            for folder in folders:
                patch.syspath_prepend(str(folder))
            registry.forget()
            ce.clear_cache()
            yield
    finally:
        for name in set(sys.modules) - before:
            origin = getattr(sys.modules[name], "__file__", None)
            if origin and Path(origin).parent in folders:
                del sys.modules[name]
        registry.forget()
        ce.clear_cache()


def lay_down(folder: Path, distribution: str, name: str, source: str) -> Path:
    """Write a distribution of one module, whose `Backend` is the plug-in of that name; return the folder."""
    module = f"{distribution.replace('-', '_')}_backend"
    folder.mkdir(exist_ok=True)
    (folder / f"{module}.py").write_text(source, encoding="utf-8")
    metadata = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text(f"[convengine.backends]\n{name} = {module}:Backend\n", encoding="utf-8")
    (metadata / "RECORD").write_text(f"{module}.py,,\n{metadata.name}/METADATA,,\n", encoding="utf-8")
    return folder
