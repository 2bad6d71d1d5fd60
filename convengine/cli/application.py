"""The application: its commands, and what becomes of an exception: one line on stderr and an exit code."""

import logging
import os
import sys
import traceback as tracebacks
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import click
import rich  # noqa: F401  # loads in no time; where it lacks, the entry point says so before any work is done

from convengine._version import __version__
from convengine.cli.bench import bench
from convengine.cli.check import check
from convengine.cli.dashboard import dashboard
from convengine.cli.demo import demo
from convengine.cli.doctor import doctor
from convengine.cli.explain import backends, explain
from convengine.cli.filter import filter_
from convengine.cli.fit import fit
from convengine.cli.kernels import kernels
from convengine.cli.terminal import complain
from convengine.cli.tune import tune
from convengine.config import current
from convengine.errors import BackendError, InvalidProblem, NoBackend

__all__ = ["application"]

OK, BAD_INPUT, INTERRUPTED, PIPE_CLOSED = 0, 2, 130, 141  # the last two: 128 + the signal's number, as shells count
EXTRA = ("PIL", "png", "tifffile", "matplotlib", "skimage")


class Application(click.Group):
    """A group of commands that ends in an exit code, and never in a traceback unless that is asked for."""

    def main(self, args: Sequence[str] | None = None, *_: Any, **__: Any) -> NoReturn:
        """Run the arguments of the process, or those given, and exit; click's own way has other codes and texts."""
        words = list(sys.argv[1:] if args is None else args)
        wanted: dict[str, Any] = {"words": words}

        def work() -> int:
            try:
                with self.make_context("convengine", words, obj=wanted) as context:
                    answer = self.invoke(context)
            except click.exceptions.Exit as stop:
                answer = stop.exit_code
            if sys.stdout is not None:
                sys.stdout.flush()  # a full disk shows here, where it can still be told
            return answer if isinstance(answer, int) else OK

        code = _exit_code(work, wanted)
        _abandon_output()
        sys.exit(code)


def _abandon_output() -> None:
    """Point a standard output that takes no more elsewhere: the interpreter would flush it again, and exit with 120."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _exit_code(work: Callable[[], int], wanted: dict[str, Any]) -> int:
    """Run the work; turn what it raises into a line and a code."""
    try:
        return work()
    except (KeyboardInterrupt, click.Abort):
        complain("interrupted", kind="")
        return INTERRUPTED
    except BrokenPipeError:
        return PIPE_CLOSED
    except Exception as error:  # noqa: BLE001  # the last resort: a line and a code, whatever it is
        if wanted.get("traceback"):
            tracebacks.print_exc()
            return BAD_INPUT
        text = _text(error)
    complain(text)
    return BAD_INPUT


def _text(error: Exception) -> str:
    return _said(error).replace("see ce.backends()", "see 'convengine backends'")


def _said(error: Exception) -> str:
    match error:
        case click.UsageError():
            command = error.ctx.command_path if error.ctx else "convengine"
            return f"{error.format_message()} (see '{command} --help')"
        case click.ClickException():
            return error.format_message()
        case NoBackend():  # a list of refusals, one a line
            return "; ".join(line.strip() for line in str(error).splitlines())
        case InvalidProblem() | BackendError() | OverflowError():
            return str(error)
        case MemoryError():
            return f"not enough memory: {error}" if str(error) else "not enough memory"
        case OSError():
            return f"{error.filename or 'standard output'}: {error.strerror or error}"
        case ModuleNotFoundError() if error.name and error.name.partition(".")[0] in EXTRA:
            return f"this command needs {error.name}: pip install 'convengine[cli]'"
    return f"unexpected {type(error).__name__}: {error}; please report it, with what 'convengine --traceback' shows"


@click.group(cls=Application, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.option("--traceback", is_flag=True, help="Show where an error came from, for a report.")
@click.pass_context
def application(context: click.Context, traceback: bool) -> None:
    """Convolve and correlate pictures and arrays, on the fastest backend, with a proven answer.

    Exit codes: 0 done, 1 a check failed, 2 wrong usage or bad input, 130 interrupted.
    """
    context.obj["traceback"] = traceback
    if current().verbose:
        _show_choices(context)
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _show_choices(context: click.Context) -> None:
    """Print the engine's choice of backend for each call on stderr, until the command ends."""
    logger, handler = logging.getLogger("convengine"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("convengine: %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)

    @context.call_on_close
    def stop() -> None:
        logger.setLevel(level)
        logger.removeHandler(handler)


for command in (demo, filter_, fit, backends, explain, check, doctor, kernels, bench, tune, dashboard):
    application.add_command(command)
