"""Serves the pages to this machine's browsers."""

import webbrowser
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

__all__ = ["serve"]

HOST = "127.0.0.1"  # nobody else can reach it


class Quiet(SimpleHTTPRequestHandler):
    """Tells nothing of requests."""

    def log_message(self, format: str, *_: Any) -> None:
        """Be quiet."""


def serve(folder: Path, port: int, *, browse: bool, tell: Callable[[str], object]) -> None:
    """Serve a folder until Ctrl-C; port 0 is any that is free. Calls `tell` with the address first."""
    with ThreadingHTTPServer((HOST, port), partial(Quiet, directory=str(folder))) as server:
        address = f"http://{HOST}:{server.server_address[1]}/"
        tell(address)
        if browse:
            webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return
