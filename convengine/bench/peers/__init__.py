"""The libraries that users could pick instead: what each is called, where it comes from, what its process needs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec

__all__ = ["PEERS", "Peer"]


@dataclass(frozen=True, slots=True)
class Peer:
    """A library, as its name in tables, its class and what must be installed for it.

    Attributes
    ----------
    entry : str
        "module:class", imported in the library's own process.
    needs : tuple of str
        Modules that it imports.
    install : str
        What to give pip.
    environment : mapping of str to str
        What its process needs beside the number of threads.
    """

    entry: str
    needs: tuple[str, ...]
    install: str
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def missing(self) -> bool:
        """Whether something that it imports is not installed."""
        return any(find_spec(name) is None for name in self.needs)


_HERE = "convengine.bench.peers"
PEERS = {
    "opencv": Peer(f"{_HERE}.opencv:OpenCV", ("cv2",), "opencv-python-headless"),
    "ndimage": Peer(f"{_HERE}.scipy:NDImage", ("scipy",), "scipy"),
    "signal": Peer(f"{_HERE}.scipy:Signal", ("scipy",), "scipy"),
    "numpy": Peer(f"{_HERE}.scipy:NumPy", ("numpy",), "numpy"),
    "torch": Peer(f"{_HERE}.torch:Torch", ("torch",), "torch"),
    "onnxruntime": Peer(f"{_HERE}.onnx:ONNXRuntime", ("onnxruntime", "onnx"), "onnxruntime onnx"),
    "jax": Peer(
        f"{_HERE}.jax:JAX",
        ("jax",),
        "jax",
        {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"},
    ),
}
