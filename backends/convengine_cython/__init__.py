"""The compiled backend: register-tiled direct correlation, one module per ISA level and element type."""

from convengine_cython.backend import Backend

__all__ = ["Backend"]
