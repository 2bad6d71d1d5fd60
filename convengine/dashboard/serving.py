"""Serves the pages to this machine's browsers."""

import sys
import webbrowser
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from convengine.dashboard.measuring import Failed

__all__ = ["serve", "server_of"]

HOST = "127.0.0.1"  # nobody else can reach it


class Quiet(SimpleHTTPRequestHandler):
    """Tells nothing of requests."""

    def log_message(self, format: str, *_: Any) -> None:
        """Be quiet."""


class Server(ThreadingHTTPServer):
    """Says nothing of a browser that goes on to another page before it has all of this one."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print what else goes wrong."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def server_of(folder: Path, port: int) -> ThreadingHTTPServer:
    """A server of what the folder will hold, which has its port already; 0 is any that is free.

    Raises
    ------
    Failed
        If the port can't be had.
    """
    try:
        return Server((HOST, port), partial(Quiet, directory=str(folder)))
    except OSError as error:
        raise Failed(f"port {port} of {HOST} can't be had: {error.strerror}; name another, or none") from None


def serve(server: ThreadingHTTPServer, *, browse: bool, tell: Callable[[str], object]) -> None:
    """Serve until Ctrl-C; calls `tell` with the address first."""
    address = f"http://{HOST}:{server.server_address[1]}/"
    tell(address)
    if browse:
        webbrowser.open(address)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        return
