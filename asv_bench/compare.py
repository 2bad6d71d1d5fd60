"""Compare filters with OpenCV and scipy.ndimage on this machine: alternating processes, one library each.

    python asv_bench/compare.py [--sizes 1024] [--widths 3 5 7] [--dtypes float32] [--threads 2] [--rounds 5]
    python asv_bench/compare.py --rates

Each round runs every library once, in a process of its own (one library's spinning threads halve another's
speed), with a preallocated output, "reflect" borders and the same threads; results are checked equal. The table
gives the median time of each and the median and range, over the rounds, of the ratio peer / ours. --rates
measures the multiply-adds per second that backends/convengine_cython/backend.py holds.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

LIBRARIES = ("convengine", "opencv", "ndimage")


def problem(size, width, dtype):
    """The image and kernel that every library gets."""
    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal((size, size)), rng.standard_normal((width, width)) / width
    return x.astype(dtype), kernel.astype(dtype)


def caller(library, x, kernel, out, threads):
    """A call without arguments that filters x into out."""
    if library == "opencv":
        import cv2

        cv2.setNumThreads(threads)
        return lambda: cv2.filter2D(x, -1, kernel, dst=out, borderType=cv2.BORDER_REFLECT_101)
    if library == "ndimage":  # single-threaded: it has no other way
        from scipy import ndimage

        return lambda: ndimage.correlate(x, kernel, output=out, mode="mirror")
    import convengine as ce

    return lambda: ce.corr2d(x, kernel, mode="same", boundary="reflect", out=out, backend="cython", workers=threads)


def measure(library, size, width, dtype, threads, result):
    """Median seconds of one library's call, in this process; the output goes to the file `result`."""
    x, kernel = problem(size, width, dtype)
    out = np.zeros_like(x)
    call = caller(library, x, kernel, out, threads)
    start = time.perf_counter()
    call()
    call()
    repeats = int(np.clip(0.4 / (time.perf_counter() - start), 3, 400))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    np.save(result, out)
    return statistics.median(times)


def measured_apart(library, arguments, result):
    """Run `measure` in a fresh process."""
    command = [sys.executable, __file__, "--one", json.dumps([library, *arguments, str(result)])]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def require_equal(ours, theirs, size, width, dtype):
    """Hold two results to the bound of two direct sums: each errs by gamma(m) * (|x| corr |kernel|) at most."""
    from scipy import ndimage

    x, kernel = problem(size, width, dtype)
    terms = width * width * float(np.finfo(dtype).eps) / 2
    scale = ndimage.correlate(np.abs(x).astype(float), np.abs(kernel).astype(float), mode="mirror")
    if not (np.abs(ours - theirs) <= 2 * terms / (1 - terms) * scale).all():
        raise AssertionError(f"results differ beyond their bounds, {dtype} {size} x {size} by {width} x {width}")


def compare(sizes, widths, dtypes, threads, rounds):
    """Print one line for each problem."""
    print(f"{'dtype':8} {'size':>5} {'k':>3}  {'ours ms':>8}  peer ms, peer / ours: median (range)")
    for dtype in dtypes:
        for size in sizes:
            for width in widths:
                times = {library: [] for library in LIBRARIES}
                with tempfile.TemporaryDirectory() as folder:
                    for _ in range(rounds):
                        for library in LIBRARIES:
                            result = Path(folder) / f"{library}.npy"
                            times[library].append(measured_apart(library, (size, width, dtype, threads), result))
                            time.sleep(0.05)  # idle between: the last library's threads come to rest
                    ours = np.load(Path(folder) / "convengine.npy")
                    for library in LIBRARIES[1:]:
                        theirs = np.load(Path(folder) / f"{library}.npy")
                        require_equal(ours, theirs, size, width, dtype)
                line = f"{dtype:8} {size:5} {width:3}  {statistics.median(times['convengine']) * 1e3:8.3f}"
                for library in LIBRARIES[1:]:
                    ratios = sorted(p / o for p, o in zip(times[library], times["convengine"], strict=True))
                    line += (
                        f"  {library} {statistics.median(times[library]) * 1e3:.3f},"
                        f" {statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
                    )
                print(line, flush=True)


ROWS = {  # of x in the kernels: types of x and kernel that lead there
    "f4": ("float32", "float32"),
    "f8": ("float64", "float64"),
    "u1": ("uint8", "int8"),  # where the CPU has dot instructions of bytes
    "i2": ("int16", "int8"),
    "i4": ("uint8", "uint16"),
    "i8": ("int64", "int64"),
}


def rates():
    """Print multiply-adds per second of each level and element type, one worker."""
    import os

    from convengine_cython.backend import compiled_levels

    import convengine as ce
    from convengine.native import cpu

    for level in (level for level in cpu.levels() if level in compiled_levels()):
        os.environ["CONVENGINE_ISA"] = level
        ce.clear_cache()
        for row, dtypes in ROWS.items():
            x, kernel = problem(1024, 7, "float64")
            x, kernel = (np.abs(values * 30).astype(dtype) for values, dtype in zip((x, kernel), dtypes, strict=True))
            if row == "i4":
                kernel[0, 0] = 65535  # too large for dot instructions, small enough for a sum in int32
            times = []
            for _ in range(7):
                start = time.perf_counter()
                y = ce.corr2d(x, kernel, backend="cython", workers=1)
                times.append(time.perf_counter() - start)
            print(f"{level:9} {row} {y.size * 49 / min(times) / 1e9:6.1f} G/s")


def main():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024])
    parser.add_argument("--widths", type=int, nargs="+", default=[3, 5, 7, 9, 11])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "float64"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rates", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(measure(*json.loads(chosen.one)))
    elif chosen.rates:
        rates()
    else:
        compare(chosen.sizes, chosen.widths, chosen.dtypes, chosen.threads, chosen.rounds)


if __name__ == "__main__":
    main()
