# cython: freethreading_compatible=True, language_level=3
"""What stands in a small array: sums, symmetry, how many outer products. One look costs less than one call of NumPy."""

from libc.math cimport INFINITY, fabs, isfinite, sqrt

cdef extern from "<complex.h>" nogil:
    double cabs(double complex)

ctypedef fused number:
    double
    double complex


cdef inline double size_of(number value) noexcept nogil:
    if number is double:
        return fabs(value)
    else:
        return cabs(value)


cdef inline bint is_finite(number value) noexcept nogil:
    if number is double:
        return isfinite(value)
    else:
        return isfinite(value.real) and isfinite(value.imag)


def sizes(const number[:, ::1] rows):
    """(largest sum of absolute values, largest 2-norm, smallest absolute value) of rows; infinite if one value is not.

    The sums are those of float64, one after the other: exact where they are of whole numbers below 2**53.
    """
    cdef Py_ssize_t row, column
    cdef double total, squares, size, scale, largest = 0, most = 0, norm = 0, least = INFINITY
    for row in range(rows.shape[0]):
        for column in range(rows.shape[1]):
            if not is_finite(rows[row, column]):
                return INFINITY, INFINITY, 0.0
            size = size_of(rows[row, column])
            largest = max(largest, size)
            least = min(least, size)
    scale = 1 if 1e-100 < largest < 1e100 else largest  # so that squares neither overflow nor vanish
    for row in range(rows.shape[0]):
        total = squares = 0
        for column in range(rows.shape[1]):
            size = size_of(rows[row, column])
            total += size
            squares += (size / scale) * (size / scale) if largest else 0
        most = max(most, total)
        norm = max(norm, scale * sqrt(squares))
    return most, norm, least if least < INFINITY else 0.0


def is_box(const number[:, ::1] rows):
    """Whether all values are one, and there is one."""
    cdef Py_ssize_t row, column
    for row in range(rows.shape[0]):
        for column in range(rows.shape[1]):
            if rows[row, column] != rows[0, 0]:
                return False
    return rows.shape[0] > 0 and rows.shape[1] > 0 and rows[0, 0] == rows[0, 0]


def is_nonnegative(const double[:, ::1] rows):
    """Whether no value is negative, or NaN."""
    cdef Py_ssize_t row, column
    for row in range(rows.shape[0]):
        for column in range(rows.shape[1]):
            if not rows[row, column] >= 0:
                return False
    return True


def symmetry(const number[:, :, ::1] values):
    """"even", "odd" or "" under a flip of the middle axis."""
    cdef Py_ssize_t outer, at, inner, last = values.shape[1] - 1
    cdef bint even = True, odd = True
    for outer in range(values.shape[0]):
        for at in range(last // 2 + 1):
            for inner in range(values.shape[2]):
                even = even and values[outer, at, inner] == values[outer, last - at, inner]
                odd = odd and values[outer, at, inner] == -values[outer, last - at, inner]
            if not (even or odd):
                return ""
    return "even" if even else "odd"


def crosses(number[:, ::1] left, double noise, Py_ssize_t limit):
    """How many crosses leave nothing above `noise` of a finite matrix, which is overwritten; and whether they do.

    A cross is the column of the largest entry times its row over that entry.
    """
    cdef Py_ssize_t row, column, pivot_row, pivot_column, rank
    cdef double size, most
    cdef number factor
    for rank in range(limit + 1):
        most, pivot_row, pivot_column = -1, 0, 0
        for row in range(left.shape[0]):
            for column in range(left.shape[1]):
                size = size_of(left[row, column])
                if size > most:
                    most, pivot_row, pivot_column = size, row, column
        if most <= noise:
            return rank, True
        if rank == limit:
            return rank, False
        for row in range(left.shape[0]):
            if row != pivot_row:
                factor = left[row, pivot_column] / left[pivot_row, pivot_column]
                for column in range(left.shape[1]):
                    left[row, column] = left[row, column] - factor * left[pivot_row, column]
        for column in range(left.shape[1]):
            left[pivot_row, column] = 0
    return limit, False
