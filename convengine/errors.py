"""Every exception of convengine: what was needed, what came, what to do, in the text."""

__all__ = ["BackendError", "InvalidProblem", "NoBackend"]


class InvalidProblem(ValueError):
    """The arguments do not describe a convolution; the text carries the values and the way out."""


class NoBackend(RuntimeError):
    """No backend that was asked can run this problem; the text lists every refusal."""


class BackendError(RuntimeError):
    """A backend failed while it ran; the cause is chained."""
