"""The console script, outside the package: Ctrl-C is one line while the package and numpy still load, too."""

import sys


def main() -> None:
    """Run the command line and exit, with the codes of `convengine.cli.main`."""
    try:
        from convengine.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("convengine: interrupted\n")
        sys.exit(130)
    run()
