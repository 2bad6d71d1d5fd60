"""Processes of libraries, seen from the parent: started, asked in turn, stopped in between, ended together.

docs/decisions/0012-benchmark-processes.md says why they live through all rounds and are stopped by a signal.
"""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["Broken", "Failed", "Process"]

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Failed(Exception):
    """A library raised; the text says what."""


class Broken(Failed):
    """A process ended or gave no answer in time; the text says how. It can't be asked again."""


class Process:
    """A library in its process.

    Parameters
    ----------
    entry : str
        "module:class".
    arguments : dict
        Of the class.
    threads : int
        How many it may use.
    environment : mapping of str to str
        Beside that of this process.
    """

    def __init__(self, entry: str, arguments: dict[str, Any], threads: int, environment: Mapping[str, str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed by end
        path = os.pathsep.join(part or str(Path.cwd()) for part in sys.path)  # what this process can import
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "convengine.bench.worker", entry, json.dumps(arguments), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **dict.fromkeys(THREADS, str(threads)), **environment, "PYTHONPATH": path},
            # A group of its own: Ctrl-C reaches the parent alone, and should that be killed, the system wakes and ends
            # a group that is left behind stopped.
            process_group=0,
        )
        self._rest = b""

    def ask(self, request: dict[str, Any], limit: float) -> dict[str, Any]:
        """Send a request and wait for the answer, at most `limit` seconds; Failed or Broken if there is none."""
        assert self._process.stdin is not None
        self._signal(signal.SIGCONT)
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            answer = self._line(time.monotonic() + limit, limit)
        except BrokenPipeError:
            raise Broken(self._last_words()) from None
        self._signal(signal.SIGSTOP)  # its threads may still be watching for work
        if "failed" in answer:
            raise Failed(answer["failed"])
        return answer

    def _line(self, until: float, limit: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        while b"\n" not in self._rest:
            ready, _, _ = select.select([pipe], [], [], max(until - time.monotonic(), 0))
            if not ready:
                raise Broken(f"gave no answer within {limit:g} s")
            piece = os.read(pipe, 1 << 16)
            if not piece:
                raise Broken(self._last_words())
            self._rest += piece
        line, self._rest = self._rest.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        """How the process ended, and the last line that it wrote."""
        code = self._process.wait()
        how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"{how}: {lines[-1]}" if lines else how

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    def end(self) -> None:
        """Kill it, whatever it does, and wait until it is gone."""
        self._process.kill()  # a stopped process dies of it, too
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
        self._errors.close()
