"""Host arrays by way of a device, on a link that does everything as late as it may: when it is waited for."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from convengine_cupy import elementwise, transfer
from convengine_cupy.transfer import Chunk, Transfer, chunks
from device_arrays import XP, Array, Link, Stream, bound_holds, on_device, problems, reading_of

import convengine as ce
from convengine.arguments import read_array
from convengine.plugin import Filter, Offer
from convengine.problem import Problem
from convengine.reading import Reading


def prepared(reading: Reading, link: Any = None) -> Transfer:
    def prepare(part: Problem) -> Filter:
        return elementwise.prepare(part, reading.kernel, reading.bias, False, XP)

    return Transfer(reading.problem, prepare, link or Link(), {})


def on_host(reading: Reading, x: Any) -> Array:
    found: Array = read_array(x, "x").transpose(reading.x_axes)
    return found


def test_every_answer_lies_within_its_bound_however_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Counter[Any] = Counter()
    for case, reading, expected in problems()[::2]:
        problem = reading.problem
        at_once = elementwise.prepare(problem, reading.kernel, reading.bias, False, XP)
        whole = at_once(on_device(on_host(reading, case.x)))
        moved = whole.nbytes + np.asarray(case.x).nbytes
        for share in (1, 3, 7):
            monkeypatch.setattr(transfer, "CHUNK", moved // share)
            out = np.full(problem.out_shape, 9).astype(problem.out_dtype)
            assert prepared(reading)(on_host(reading, case.x), out) is out
            bound_holds(case.id, out.transpose(np.argsort(reading.out_axes)), expected)
            if problem.sum_dtype.kind != "c":  # NumPy, which stands for CuPy here, rounds those by their place
                assert out.tobytes() == whole.tobytes(), case.id
            count = len(list(chunks(problem)))
            seen.update([min(count, 4), "layer" if problem.is_layer else "filter", *problem.boundary])
            seen.update(["stride"] * (count > 1 and problem.stride[0] > 1) + ["batch"] * (problem.batch[:1] > (1,)))
    assert all(seen[trait] >= 20 for trait in (1, 2, 3, 4, "layer", "filter", "stride", "batch", "wrap", "reflect"))


def test_chunks_cover_every_result_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for shape, count in (((40, 30), 38), ((5, 40, 30), 5), ((1, 40, 30), 38)):
        problem = reading_of("corr2d", np.ones(shape), np.ones((3, 3)), memory="host").problem
        for bytes_ in (1, 5000, 10**9):
            monkeypatch.setattr(transfer, "CHUNK", bytes_)
            found = list(chunks(problem))
            assert [found[0].first, *(chunk.last for chunk in found)] == [*(chunk.first for chunk in found), count]
            assert len({chunk.problem for chunk in found}) <= 2
        assert len(found) == 1


def test_little_memory_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "CHUNK", 20_000)
    x = np.ones((1000, 100))
    reading, link = reading_of("corr2d", x, np.ones((3, 3)), memory="host", mode="same"), Link()
    prepared(reading, link)(x)
    offered = transfer.priced(reading.problem, Offer("direct", 1e-3, 0, 1e-15))
    assert 20_000 < link.held <= offered.memory < x.nbytes
    assert offered.method == "direct, by way of the device"
    assert offered.seconds > 1e-3 and offered.error == 1e-15


def test_what_is_under_way_is_waited_for_when_something_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "CHUNK", 2000)
    x = np.ones((100, 20))
    reading, link = reading_of("corr2d", x, np.ones((3, 3)), memory="host"), Link()
    ready, streams, calls = prepared(reading, link), [], []

    def stream() -> Stream:
        streams.append(Stream(link))
        return streams[-1]

    def prepare(part: Problem) -> Filter:
        def run(x: Any, out: Any = None) -> Any:
            calls.append(x)
            if len(calls) == 3:
                raise MemoryError("the device is full")
            return elementwise.prepare(part, reading.kernel, None, False, XP)(x)

        return run

    monkeypatch.setattr(link, "stream", stream)
    with pytest.raises(MemoryError, match="the device is full"):
        replace(ready, prepare=prepare)(x)
    assert streams and not any(stream.work for stream in streams)


def test_a_chunk_has_the_border_of_the_whole() -> None:
    x = np.arange(12.0).reshape(6, 2)
    problem = reading_of("corr2d", x, np.ones((3, 1)), memory="host", mode="same", boundary="wrap").problem
    first = Chunk(replace(problem, x_shape=(4, 2), out_shape=(2, 2), pads=((0, 0), (0, 0))), 0, 0, 2)
    np.testing.assert_array_equal(first.samples(problem, x), x[[5, 0, 1, 2]])


def test_the_option_is_off_unless_it_is_said() -> None:
    x = np.ones((8, 8))
    with pytest.raises(ce.NoBackend, match=r"cupy|no CUDA|ce\.options\(transfer=True\)"):
        ce.corr2d(x, np.ones((3, 3)), backend="cupy")
    with pytest.raises(ce.InvalidProblem, match="transfer must be True or False"), ce.options(transfer=3):
        pass
