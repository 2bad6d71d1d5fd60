"""Arrays of other libraries, in and out of the public operations, with those libraries' own differentiation.

Nothing here is imported before an array of its library arrives: `convengine.interop.torch` for PyTorch,
`convengine.interop.jax` for JAX.
"""
