"""Aligned text tables, for the reprs that are tables."""

from collections.abc import Sequence

__all__ = ["bytes_text", "fraction_text", "ratio_text", "seconds_text", "table"]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned left, two spaces apart; no trailing blanks."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def seconds_text(seconds: float) -> str:
    """A time with its unit, three digits."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if float(f"{seconds / scale:.3g}") >= 1:  # 999.6 us is 1 ms, not 1e+03 us
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def bytes_text(count: float) -> str:
    """A size with its unit."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count:.0f} B"


def ratio_text(ratio: float) -> str:
    """How many times as long: two digits, and no exponent."""
    return f"{ratio:.0f}x" if ratio >= 9.95 else f"{ratio:.2g}x" if ratio >= 1 else f"{ratio:.2f}x"


def fraction_text(fraction: float) -> str:
    """An error over its bound in two digits; in more where two would round to the bound itself."""
    texts = (f"{fraction:.{digits}g}" for digits in range(2, 18))
    return next(text for text in texts if float(text) != 1 or fraction == 1)
