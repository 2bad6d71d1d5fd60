"""How rows.pxi, and so the compiled kernels, number the types of samples and the overflow rules."""

__all__ = ["CODES", "OVERFLOWS"]

CODES = {name: code for code, name in enumerate(("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"))}
CODES["b1"] = CODES["u1"]  # bool is stored as uint8
OVERFLOWS = {"saturate": 0, "wrap": 1, "raise": 2}
