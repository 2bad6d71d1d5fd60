"""Sessions for contributors: lint, tests, contract, sanitize, bench, docs. `nox -l` lists them."""

import os
import subprocess
from pathlib import Path

import nox

nox.options.sessions = ["lint", "tests"]
nox.options.default_venv_backend = "venv"


@nox.session
def lint(session: nox.Session) -> None:
    """Run every linter, as CI does."""
    session.install("-e", ".[lint,test]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("cython-lint", "convengine", "backends")
    session.run("lint-imports")
    session.run("mypy")
    session.run("codespell")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the whole suite."""
    session.install("-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def contract(session: nox.Session) -> None:
    """Run the contract over every backend and ISA level, and show every skip."""
    session.install("-e", ".[test,peers]")
    session.run("pytest", "tests/test_contract.py", "tests/test_mutants.py", "-rs", *session.posargs)


@nox.session
def sanitize(session: nox.Session) -> None:
    """Build with bounds checks, ASan and UBSan, and run the tests that drive compiled code."""
    session.install("-e", ".[test]", env={"CONVENGINE_DEBUG": "1"})
    library = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], check=True, capture_output=True, text=True
    ).stdout.strip()
    environment = {
        "LD_PRELOAD": str(Path(library).resolve()),
        "PYTHONMALLOC": "malloc",  # so that ASan sees every allocation
        "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter itself leaks at exit
        "UBSAN_OPTIONS": "print_stacktrace=1,halt_on_error=1",
        **{name: value for name, value in os.environ.items() if name.startswith("CONVENGINE_")},
    }
    names = ("native_cpu", "native_vector", "native_pool", "cython", "cython_gradient", "fft_tiles", "contract")
    compiled = [f"tests/test_{name}.py" for name in names]
    chosen = session.posargs or compiled
    session.run("pytest", "-p", "no:randomly", "-n0", *chosen, env=environment)


@nox.session
def bench(session: nox.Session) -> None:
    """Check the benchmarks, and run each case of the positional arguments (asv's --bench), or of all, once."""
    session.install("-e", ".[test]")
    with session.chdir("asv_bench"):
        session.run("asv", "machine", "--yes")
        session.run("asv", "check", "--python=same")
        session.run("asv", "run", "--python=same", "--quick", "--show-stderr", "--bench", *(session.posargs or ["."]))


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning is an error."""
    session.install("-e", ".[docs,cli,torch,jax]")  # pages show what they import: a stand-in has no signatures
    session.run("sphinx-build", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html")
