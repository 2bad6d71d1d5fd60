"""The table of the border rules, read off the one that the engine uses: convengine/boundary.py."""

import inspect
import re
from typing import NamedTuple

from convengine.boundary import FILL, Boundary, pad_indices

__all__ = ["Drawn", "drawn", "markdown"]

SAMPLES = "abcd"
PAD = 3
LINE = re.compile(r'(?P<name>[A-Z]+) = "(?P<word>\w+)" +# +(?P<picture>.*?) {2,}(?P<meaning>.*)')


class Drawn(NamedTuple):
    """A rule: its word, what stands beyond both edges of a b c d, and what that means."""

    word: str
    picture: str
    meaning: str


def picture(rule: Boundary) -> str:
    """Draw a rule by asking it: "c b a | a b c d | d c b"."""
    left, right = pad_indices(rule, len(SAMPLES), PAD, PAD)
    sides = [" ".join("f" if i == FILL else SAMPLES[i] for i in side) for side in (left, right)]
    return f"{sides[0]} | {' '.join(SAMPLES)} | {sides[1]}"


def drawn() -> list[Drawn]:
    """Return every rule with the picture and meaning that stand beside it in the source.

    Raises
    ------
    ValueError
        If a rule's picture in the source is not what the rule does.
    """
    lines = {match["word"]: match for match in LINE.finditer(inspect.getsource(Boundary))}
    for rule in Boundary:
        if (shown := lines[rule.value]["picture"]) != picture(rule):
            raise ValueError(f"boundary.py draws {rule.value!r} as {shown!r}; the rule gives {picture(rule)!r}")
    return [Drawn(rule.value, picture(rule), lines[rule.value]["meaning"]) for rule in Boundary]


def markdown() -> str:
    """Return the rules as a Markdown table."""
    lines = ["| `boundary` | before, the axis, after | |", "| --- | --- | --- |"]
    for rule in drawn():
        shown = rule.picture.replace("|", r"\|")  # a bar would end the cell
        lines.append(f'| `"{rule.word}"` | `{shown}` | {rule.meaning} |')
    return "\n".join(lines)
