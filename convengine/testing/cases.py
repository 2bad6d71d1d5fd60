"""Valid problems of every sort, put together from traits: the covering selection, and what the strategies draw from.

A trait is one decision (the mode, the dtype of x, ...). A row gives each trait a value; `assemble` makes arrays and
keywords of a row. Choices come from a `Chooser`, so that a seeded generator and hypothesis build the same problems.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, permutations, product
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from convengine.testing.arguments import BOUNDARIES, Array

T = TypeVar("T")
Row = dict[str, Any]

INTEGERS = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float16", "float32", "float64")
COMPLEX = ("complex64", "complex128")
EMPTY = ("no image", "no channel", "empty axis")

# A value that stands here more than once is drawn that much more often; covering asks for it no more than for others.
TRAITS: dict[str, tuple[Any, ...]] = {
    "x_dtype": (*INTEGERS, *FLOATS, *FLOATS, *COMPLEX),
    # "ints" and "floats" come as nested lists of Python numbers, whose dtype is weak.
    "kernel_dtype": ("same", "same", "ints", "floats", "uint8", "int32", "float16", "float64", "complex64"),
    "kind": ("filter", "batch", "axes", "colour", "layer", "layer-last", "groups", "groups-last", "depthwise"),
    "mode": ("valid", "same", "center", "full", "padding", "pairs"),
    "boundary": (*BOUNDARIES, "mixed"),
    "stride": (1, 1, 2, 3, "mixed"),
    "dilation": (1, 1, 2, "mixed"),
    "ndim": (1, 2, 3),
    "shape": ("odd", "even", "one", "larger"),  # of the kernel: "larger" than x, on one axis at least
    "extent": ("small", "wide"),  # a wide row fills the main loop of a vector kernel, and leaves a rest
    "samples": (*["some"] * 27, *EMPTY),
    "layout": ("contiguous", "fortran", "transposed", "reversed", "sliced", "readonly", "swapped", "list"),
    "result": (*["default"] * 3, "wider", "narrower", "saturate", "wrap", "raise"),
    "values": ("plain", "plain", "scaled", "nan", "inf"),
    "weights": ("any", "any", "outer", "equal"),  # what a method may make use of: an outer product, a box
    "fill": ("zero", "other"),
    "bias": ("without", "with"),
    "operation": ("corr", "conv"),
}

# What does not go together: no valid problem has both, or a sum would be NaN where an integer is wanted.
FORBIDDEN: tuple[tuple[str, tuple[Any, ...], str, tuple[Any, ...]], ...] = (
    ("mode", ("valid",), "shape", ("larger",)),
    ("samples", ("empty axis",), "mode", ("valid",)),
    ("samples", ("empty axis",), "shape", ("larger",)),
    ("samples", ("empty axis",), "boundary", ("edge", "reflect", "symmetric", "wrap")),
    ("samples", ("no image",), "kind", ("filter",)),
    ("samples", ("no channel",), "kind", ("filter", "batch", "axes", "groups", "groups-last", "depthwise")),
    # A nested list loses the shape of what is empty, and comes back as bool, int64, float64 or complex128.
    ("kernel_dtype", ("ints", "floats"), "samples", ("no channel",)),
    ("layout", ("list",), "samples", EMPTY),
    ("layout", ("list",), "x_dtype", ("int8", "int16", "int32", *INTEGERS[5:], "float16", "float32", "complex64")),
    ("result", ("saturate", "wrap", "raise"), "x_dtype", COMPLEX),
    ("result", ("saturate", "wrap", "raise"), "kernel_dtype", ("complex64",)),
    ("result", ("saturate", "wrap", "raise"), "values", ("nan", "inf")),
    ("values", ("nan", "inf"), "x_dtype", INTEGERS),
)


class Case(NamedTuple):
    """One problem: what is special about it, which public function, its arguments.

    Attributes
    ----------
    id : str
        What is special about it; its name in a report.
    name : {"corr1d", "corr2d", "corr3d", "conv1d", "conv2d", "conv3d"}
        The public function.
    x, kernel : array or nested list
        As the public function takes them.
    keywords : dict
        Those of the public function that say what to compute.

    Examples
    --------
    >>> from convengine.testing import Case, reference
    >>> case = Case("ends", "corr1d", [1, 2, 4], [1, -1], {"mode": "full"})
    >>> reference(case.name, case.x, case.kernel, **case.keywords).final
    array([-1, -1, -2,  4])
    """

    id: str
    name: str
    x: Any
    kernel: Any
    keywords: dict[str, Any]


class Chooser(Protocol):
    """Where choices come from."""

    def pick(self, options: Sequence[T]) -> T:
        """One of some options."""
        ...

    def integer(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        ...


class Seeded:
    """Choices from a seeded generator, each as likely as the others."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def pick(self, options: Sequence[T]) -> T:
        """One of some options."""
        return options[int(self.rng.integers(len(options)))]

    def integer(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return int(self.rng.integers(low, high, endpoint=True))


def covering_cases(least: int = 360, seed: int = 7) -> list[Case]:
    """Build problems in which every allowed pair of trait values meets at least once.

    Parameters
    ----------
    least : int
        Rows drawn at random fill up to this number of cases.
    seed : int
        The same seed gives the same cases.

    Returns
    -------
    list of Case
        (id, name, x, kernel, keywords), x and kernel as arrays or nested lists. An id that ends in "-nan" or "-inf"
        says that x, the kernel, the bias or the fill value holds one.

    Examples
    --------
    >>> from convengine.testing.oracle import reference
    >>> case = covering_cases()[0]
    >>> reference(case.name, case.x, case.kernel, **case.keywords).value.ndim > 0
    True
    """
    choose = Seeded(seed)
    rows = list(covering_rows(choose))
    rows += [draw_row(choose) for _ in range(least - len(rows))]
    return [assemble(choose, row, f"{number:03d}-") for number, row in enumerate(rows)]


def covering_rows(choose: Chooser) -> Iterator[Row]:
    """Rows that together hold every allowed pair of trait values."""
    # Without samples there may be no output, and nothing is shown of the other traits: they meet in rows with samples.
    yield from _cover(choose, TRAITS | {"samples": ("some",)}, list(combinations(TRAITS, 2)))
    others = [trait for trait in TRAITS if trait != "samples"]
    yield from _cover(choose, TRAITS | {"samples": EMPTY}, [("samples", trait) for trait in others])


def _cover(choose: Chooser, traits: Mapping[str, Sequence[Any]], together: Sequence[tuple[str, str]]) -> Iterator[Row]:
    """Rows in which all allowed values of the traits that go together meet; each takes in what is missing, greedily."""
    missing = dict.fromkeys(  # ordered, as a set of strings is not from one process to the next
        ((a, value), (b, other))
        for a, b in together
        for value, other in product(traits[a], traits[b])
        if _allowed({a: value}, b, other)
    )
    while missing:
        row: Row = dict(next(iter(missing)))
        for trait in [trait for trait in traits if trait not in row]:
            options = [value for value in dict.fromkeys(traits[trait]) if _allowed(row, trait, value)]
            news = [(trait, value) for value in options]
            gains = [sum((old, new) in missing or (new, old) in missing for old in row.items()) for new in news]
            row[trait] = choose.pick([value for value, gain in zip(options, gains, strict=True) if gain == max(gains)])
        for one, other in permutations(row.items(), 2):
            missing.pop((one, other), None)
        yield row


def draw_row(choose: Chooser, only: Mapping[str, Sequence[Any]] | None = None) -> Row:
    """Draw a value for each trait, from `only` where it names the trait; ValueError where nothing there is allowed."""
    only = only or {}
    if unknown := only.keys() - TRAITS.keys():
        raise ValueError(f"traits are {', '.join(TRAITS)}; got {', '.join(sorted(unknown))}")
    row: Row = {}
    for trait in sorted(TRAITS, key=lambda trait: trait not in only):
        options = [value for value in only.get(trait, TRAITS[trait]) if _allowed(row, trait, value)]
        if not options:
            raise ValueError(f"{trait} must be one that goes with {row}; got {only.get(trait)}")
        row[trait] = choose.pick(options)
    return row


def assemble(choose: Chooser, row: Row, prefix: str = "") -> Case:
    """Make the problem that a row describes; what the row leaves open is chosen."""
    rng = np.random.default_rng(choose.integer(0, 2**32 - 1))
    spatial, k_spatial, keywords = _geometry(choose, row)
    outer, k_outer, grouping = _channels(choose, row)
    x, kernel, bias = _values(rng, row, (*outer, *spatial), (*k_outer, *k_spatial))
    fill = {"b": True, "u": 7, "i": -3, "f": -0.75, "c": 0.5 - 1.5j}[x.dtype.kind] if row["fill"] == "other" else 0
    if row["values"] in ("nan", "inf"):
        fill = _poison(choose, row, x, kernel, bias, fill)
    keywords |= grouping | _result(choose, row)
    if fill != 0:
        keywords["fill_value"] = fill
    if row["bias"] == "with":
        keywords["bias"] = bias if choose.pick((True, False)) else bias.tolist()
    if "c" in x.dtype.kind + kernel.dtype.kind:
        keywords["conjugate"] = choose.pick((True, False))
    x, kernel, placing = _place(choose, row, x, kernel)
    name = f"{row['operation']}{row['ndim']}d"
    shown = [row[t] for t in ("kind", "mode", "boundary", "x_dtype", "kernel_dtype", "shape", "layout", "result")]
    shown += [row["weights"]] * (row["weights"] != "any")
    shown += [row["samples"].replace(" ", "_")] * (row["samples"] != "some")
    shown += [row["values"]] * (row["values"] in ("nan", "inf"))
    weak = row["kernel_dtype"] in ("ints", "floats")
    k_layout = "list" if weak else choose.pick(TRAITS["layout"][:-1])
    x, kernel = _lay_out(x, row["layout"]), _lay_out(kernel, k_layout)
    return Case(prefix + "-".join([name, *shown]), name, x, kernel, keywords | placing)


def _allowed(row: Row, trait: str, value: Any) -> bool:
    """Whether a value of a trait goes with those that a row has already."""
    return not any(
        (trait == a and value in values and row.get(b) in others)
        or (trait == b and value in others and row.get(a) in values)
        for a, values, b, others in FORBIDDEN
    )


def _geometry(choose: Chooser, row: Row) -> tuple[list[int], list[int], Row]:
    """Spatial shapes of x and kernel, and the keywords that lay one on the other."""
    n = row["ndim"]
    sizes = {"odd": (1, 3, 5), "even": (2, 4), "one": (1,), "larger": (1, 2, 3)}[row["shape"]]
    kernel = [choose.pick(sizes if n < 3 else sizes[:2]) for _ in range(n)]
    axis = choose.integer(0, n - 1)
    if row["shape"] == "larger":
        kernel[axis] = choose.integer(4, 4 if n == 3 else 6)
    dilation, stride = (_counts(choose, row[trait], n) for trait in ("dilation", "stride"))
    extents = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    spatial = [choose.integer(k if row["mode"] == "valid" else 1, k + (8, 5, 2)[n - 1]) for k in extents]
    if row["extent"] == "wide":
        spatial[-1] += choose.integer(30, (160, 100, 40)[n - 1])
    words = [choose.pick(BOUNDARIES) if row["boundary"] == "mixed" else row["boundary"] for _ in range(n)]
    if row["shape"] == "larger":
        spatial[axis] = choose.integer(1, extents[axis] - 1)
    if row["samples"] == "empty axis":
        spatial[axis], words[axis] = 0, "constant"
    keywords = _keyword(choose, "stride", stride) | _keyword(choose, "dilation", dilation)
    keywords |= _keyword(choose, "boundary", words) | _margins(choose, row["mode"], spatial, extents)
    return spatial, kernel, keywords


def _margins(choose: Chooser, mode: str, spatial: Sequence[int], extents: Sequence[int]) -> Row:
    """The keywords of a mode, or a padding with which the kernel fits."""
    if mode == "center":
        return {"mode": "same"} | _keyword(choose, "center", [choose.integer(0, k - 1) for k in extents])
    # Without a sample, one less is enough: that leaves no output.
    lacks = [max(k - length - (length == 0), 0) for k, length in zip(extents, spatial, strict=True)]
    if mode == "padding":
        widths = [-(-lack // 2) + choose.pick((0, 1, 2, 9)) for lack in lacks]
        return {"padding": choose.pick((max(widths), tuple(widths)))}
    if mode == "pairs":
        befores = [choose.integer(0, k) for k in extents]
        afters = [max(lack - b, 0) + choose.integer(0, 3) for b, lack in zip(befores, lacks, strict=True)]
        return {"padding": tuple(zip(befores, afters, strict=True))}
    return {"mode": mode}


def _channels(choose: Chooser, row: Row) -> tuple[list[int], list[int], Row]:
    """What stands before the spatial axes of x and of the kernel, and the keyword for groups."""
    kind, empty = row["kind"], row["samples"]
    batch = [choose.integer(1, 3) for _ in range(choose.integer(empty == "no image", 1))]
    if kind == "filter":
        return [], [], {}
    if kind in ("batch", "axes", "colour"):
        outer = [*batch, choose.integer(1, 4)]
        if empty in ("no image", "no channel"):
            outer[0 if empty == "no image" else -1] = 0
        return outer, [], {}
    groups = {"layer": 1, "layer-last": 1, "groups": 2, "groups-last": 2}.get(kind) or choose.integer(2, 4)
    inputs = 0 if empty == "no channel" else 1 if kind == "depthwise" else choose.integer(1, 3)
    batch = [0] if empty == "no image" else batch
    return [*batch, groups * inputs], [groups * choose.integer(1, 2), inputs], {"groups": groups} if groups > 1 else {}


def _values(
    rng: np.random.Generator, row: Row, shape: tuple[int, ...], k_shape: tuple[int, ...]
) -> tuple[Array, Array, Array]:
    """Samples, weights and biases: exact in float16 where a dtype is weak, and far from where a result overflows."""
    x_dtype = np.dtype(row["x_dtype"])
    scaled = row["values"] == "scaled" and row["result"] not in ("narrower", "raise")
    # 44 bits of x, 54 with the kernel's and 62 with the taps' stay within int64.
    x = _numbers(rng, shape, x_dtype, 44, scaled)
    kernel: Array
    if row["kernel_dtype"] == "ints":
        kernel = rng.integers(-8, 8, k_shape, endpoint=True)
    elif row["kernel_dtype"] == "floats":
        kernel = rng.integers(-32, 32, k_shape, endpoint=True) / 8
    else:
        dtype = x_dtype if row["kernel_dtype"] == "same" else np.dtype(row["kernel_dtype"])
        bits = 54 - min(8 * x_dtype.itemsize, 44) if x_dtype.kind in "biu" else 7
        kernel = _numbers(rng, k_shape, dtype, bits, scaled)
    if row["weights"] == "outer":
        # Weak floats stay as few bits as they are: an engine may sum them in float64, the oracle in a narrower dtype.
        kernel = _outer(rng, np.rint(kernel) if row["kernel_dtype"] == "floats" else kernel, row["ndim"])
    elif row["weights"] == "equal" and kernel.size:
        kernel[...] = kernel.flat[0]
    outputs = k_shape[:1] if len(k_shape) > row["ndim"] else ()
    bias = rng.integers(-1000, 1000, outputs, endpoint=True)
    unit = 1 if _is_integer(row) else 0.125 - 0.5j if "c" in x.dtype.kind + kernel.dtype.kind else 0.125
    return x, kernel, np.asarray(bias * unit)


def _numbers(rng: np.random.Generator, shape: Sequence[int], dtype: np.dtype[Any], bits: int, scaled: bool) -> Array:
    """Numbers of a dtype: integers up to 2**bits; normal floats, scaled over six decades if that is wanted."""
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        low, high = max(int(info.min), -(2**bits)), min(int(info.max), 2**bits)
        return rng.integers(low, high, shape, dtype, endpoint=True)
    numbers = rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if dtype.kind == "c" else 0)
    if scaled and dtype != np.float16:
        numbers = numbers * 10.0 ** rng.uniform(-3, 3, shape)
    return numbers.astype(dtype)


def _outer(rng: np.random.Generator, kernel: Array, ndim: int) -> Array:
    """Outer products of lines of a kernel, one along each spatial axis; of small numbers where they are integers."""
    if kernel.dtype.kind in "iu":
        kernel = rng.integers(-3 if kernel.dtype.kind == "i" else 0, 4, kernel.shape).astype(kernel.dtype)
    product: Array = np.ones((), kernel.dtype)
    for axis in range(-ndim, 0):
        line = kernel
        for other in set(range(-ndim, 0)) - {axis}:
            line = line.take([0], axis=other)
        product = product * line
    return product


def _poison(choose: Chooser, row: Row, x: Array, kernel: Array, bias: Array, fill: Any) -> Any:
    """Put one NaN or infinity, or two, into x, the kernel, the bias or the fill value, which is returned."""
    number = float(row["values"]) * choose.pick((1, -1))
    places = [array for array in (x, x, kernel) if array.size and array.dtype.kind in "fc"]
    places += [bias] * (row["bias"] == "with")
    for array in [choose.pick(places)] if places else []:
        for _ in range(choose.integer(1, 2)):
            part = complex(1, number) if array.dtype.kind == "c" and choose.pick((True, False)) else number
            array.flat[choose.integer(0, array.size - 1)] = part
    return number if not places or choose.integer(0, 4) == 0 else fill


def _is_integer(row: Row) -> bool:
    """Whether the problem is one that integers answer exactly."""
    kernel = row["x_dtype"] if row["kernel_dtype"] == "same" else row["kernel_dtype"]
    exact = row["x_dtype"] in INTEGERS and kernel in (*INTEGERS, "ints")
    return exact and row["result"] not in ("wider", "narrower")


def _result(choose: Chooser, row: Row) -> Row:
    """The keywords that say which dtype the result has and what happens beyond it."""
    asked = row["result"]
    if asked == "default":
        return {}
    if asked == "saturate":
        return {"dtype": choose.pick(("uint8", "int16"))} | choose.pick(({}, {"overflow": "saturate"}))
    if asked in ("wrap", "raise"):
        return {"dtype": choose.pick(("int8", "uint16")) if asked == "wrap" else "int64", "overflow": asked}
    integral = row["x_dtype"] in INTEGERS
    weak = {"same": row["x_dtype"], "ints": "bool", "floats": "float64" if integral else "bool"}
    natural = np.result_type(row["x_dtype"], weak.get(row["kernel_dtype"], row["kernel_dtype"])).name
    if asked == "wider":
        wider = {"float16": "float32", "float32": "float64", "float64": "complex128", "complex64": "complex128"}
        return {"dtype": wider.get(natural, "complex128" if natural == "complex128" else "float64")}
    narrower = {"float16": "float16", "complex64": "complex64", "complex128": "complex64"}
    if natural == "float32" and not integral and row["kernel_dtype"] != "uint8":  # whose sums might pass float16
        narrower["float32"] = "float16"
    return {"dtype": narrower.get(natural, "float32")}


def _place(choose: Chooser, row: Row, x: Array, kernel: Array) -> tuple[Array, Array, Row]:
    """Move the axes from channels first to where the row's kind has them, and name them."""
    n, kind = row["ndim"], row["kind"]
    if kind == "axes":
        free = list(range(x.ndim))
        axes = [free.pop(choose.integer(0, len(free) - 1)) for _ in range(n)]
        signed = [axis - choose.pick((0, x.ndim)) for axis in axes]
        return np.moveaxis(x, range(-n, 0), axes), kernel, {"axes": tuple(signed) if n > 1 else signed[0]}
    if kind == "batch" and x.ndim == n + 1 and x.shape[-1] in (3, 4):  # looks like channels last, and would warn
        return x, kernel, {"axes": tuple(range(-n, 0))}
    if kind == "colour" and choose.pick((True, False)):
        return x, kernel, {"channel_axis": -n - 1}
    if kind in ("colour", "layer-last", "groups-last"):
        x = np.moveaxis(x, -n - 1, -1)
        return x, kernel if kind == "colour" else np.moveaxis(kernel, (0, 1), (-1, -2)), {"channel_axis": -1}
    return x, kernel, {}


def _lay_out(array: Array, layout: str) -> Any:
    """The same values in another arrangement of memory, or as a nested list."""
    if layout == "list":
        return array.tolist()
    if layout == "fortran":
        return np.asfortranarray(array)
    if layout == "transposed":
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 0, -1)), -1, 0)
    if layout == "reversed":
        return np.flip(np.flip(array).copy())
    if layout == "sliced":
        sliced = np.ones([2 * length + 1 for length in array.shape], array.dtype)[(slice(1, None, 2),) * array.ndim]
        sliced[...] = array
        return sliced
    if layout == "swapped":
        return array.astype(array.dtype.newbyteorder())
    plain = array.copy()
    plain.setflags(write=layout != "readonly")
    return plain


def _counts(choose: Chooser, trait: Any, n: int) -> list[int]:
    return [choose.integer(1, 3) for _ in range(n)] if trait == "mixed" else [trait] * n


def _keyword(choose: Chooser, name: str, values: Sequence[Any]) -> Row:
    """One value per axis as a keyword, also as a single value where they are equal."""
    return {name: values[0] if len(set(values)) == 1 and choose.pick((True, False)) else tuple(values)}
