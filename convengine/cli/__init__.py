"""The command line: the only part of convengine that prints.

Its libraries come with the [cli] extra; the engine itself needs none of them.
"""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit: 0 done, 1 a check failed, 2 wrong usage or bad input, 130 interrupted."""
    try:
        from convengine.cli.application import application
    except KeyboardInterrupt:  # later ones are the application's
        sys.stderr.write("convengine: interrupted\n")
        sys.exit(130)
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        sys.stderr.write(f"convengine: error: the command line needs {error.name}: pip install 'convengine[cli]'\n")
        sys.exit(2)
    application()
