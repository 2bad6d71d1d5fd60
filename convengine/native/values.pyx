# cython: freethreading_compatible=True, language_level=3
"""What stands in a small array: sums, symmetry, how many outer products. One look costs less than one call of NumPy."""

from libc.math cimport INFINITY, fabs, frexp, isfinite, ldexp, sqrt
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

cdef extern from "<complex.h>" nogil:
    double cabs(double complex)

ctypedef fused number:
    double
    double complex


cdef inline double size_of(number value) noexcept nogil:
    cdef double square
    if number is double:
        return fabs(value)
    else:
        square = value.real * value.real + value.imag * value.imag
        return sqrt(square) if 1e-280 < square < 1e280 else cabs(value)  # which is slow, and never overflows


cdef inline bint is_finite(number value) noexcept nogil:
    if number is double:
        return isfinite(value)
    else:
        return isfinite(value.real) and isfinite(value.imag)


def look(const number[:, ::1] rows, tuple shape):
    """What rows of values hold, each row some arrays of one shape.

    Returns
    -------
    most, norm, least : float
        Largest sum of absolute values and largest 2-norm of a row, and the smallest absolute value; inf, inf, 0 where a
        value is not finite. In float64, one after the other: exact for whole numbers that add up to less than 2**26.
    box, nonnegative : bool
        Whether all values are one; whether none is negative, NaN or complex.
    symmetry : tuple of str
        "even", "odd" or "" under a flip of each axis of the shape.
    """
    cdef Py_ssize_t row, column, axis, after, n, count = rows.shape[0] * rows.shape[1]
    cdef double total, squares, size, scale, largest = 0, most = 0, norm = 0, least = INFINITY
    cdef bint box = count > 0, nonnegative = number is double, finite = True
    cdef list symmetry = []
    for row in range(rows.shape[0]):
        for column in range(rows.shape[1]):
            finite = finite and is_finite(rows[row, column])
            box = box and rows[row, column] == rows[0, 0]
            if number is double:
                nonnegative = nonnegative and rows[row, column] >= 0
            size = size_of(rows[row, column])
            largest = max(largest, size)
            least = min(least, size)
    scale = 1 if 1e-100 < largest < 1e100 else largest  # so that squares neither overflow nor vanish
    if finite and largest:
        for row in range(rows.shape[0]):
            total = squares = 0
            for column in range(rows.shape[1]):
                size = size_of(rows[row, column])
                total += size
                squares += (size / scale) * (size / scale)
            most = max(most, total)
            norm = max(norm, scale * sqrt(squares))
    after = 1
    for axis in range(len(shape)):
        after *= shape[axis]
    if after and rows.shape[1] % after:
        raise ValueError(f"rows of {rows.shape[1]} values hold no arrays of shape {shape}")
    for axis in range(len(shape)):
        n = shape[axis]
        after //= max(n, 1)
        symmetry.append(flip(rows, n, after) if count else "even")
    if not (finite and largest < INFINITY):
        return INFINITY, INFINITY, 0.0, box, nonnegative, tuple(symmetry)
    return most, norm, least if count else 0.0, box, nonnegative, tuple(symmetry)


cdef str flip(const number[:, ::1] rows, Py_ssize_t n, Py_ssize_t after):
    """"even", "odd" or "": what a flip makes of an axis of n places that lie `after` values apart."""
    cdef Py_ssize_t row, start, at, inner, here, there
    cdef bint even = True, odd = True
    for row in range(rows.shape[0]):
        for start in range(0, rows.shape[1], n * after):
            for at in range((n + 1) // 2):
                for inner in range(after):
                    here, there = start + at * after + inner, start + (n - 1 - at) * after + inner
                    even = even and rows[row, here] == rows[row, there]
                    odd = odd and rows[row, here] == -rows[row, there]
                if not (even or odd):
                    return ""
    return "even" if even else "odd"


def crosses(const number[:, ::1] matrix, double share, Py_ssize_t limit):
    """How many crosses leave nothing above a share of the largest value of a matrix; and whether so many do.

    A cross is the column of the largest entry times its row over that entry. None, and it is so, for zeros and where
    the share under- or overflows.
    """
    cdef Py_ssize_t columns = matrix.shape[1], count = matrix.shape[0] * columns
    cdef Py_ssize_t at, row, column, pivot, pivot_row, pivot_column, rank
    cdef double size, most, noise = 0
    cdef number factor
    cdef number* left = <number*>malloc(max(count, 1) * sizeof(number))
    if left == NULL:
        raise MemoryError
    try:
        if count:
            memcpy(left, &matrix[0, 0], count * sizeof(number))
        for rank in range(limit + 1):
            most, pivot = -1, 0
            for at in range(count):
                size = size_of(left[at])
                if size > most:
                    most, pivot = size, at
            if rank == 0:
                noise = share * most
                if not 0 < noise < INFINITY:
                    return 0, True
            if most <= noise:
                return rank, True
            if rank == limit:
                break
            pivot_row, pivot_column = pivot // columns, pivot % columns
            for row in range(matrix.shape[0]):
                if row != pivot_row:
                    factor = left[row * columns + pivot_column] / left[pivot]
                    for column in range(columns):
                        left[row * columns + column] = \
                            left[row * columns + column] - factor * left[pivot_row * columns + column]
            for column in range(columns):
                left[pivot_row * columns + column] = 0
        return limit, False
    finally:
        free(left)


def unit(const double[:, ::1] matrix, int bits):
    """The largest power of two, as its exponent, of which all values are whole multiples below 2**bits; or None.

    0 for zeros.
    """
    cdef Py_ssize_t row, column
    cdef long long digits
    cdef int exponent, lowest = 0, highest = 0
    cdef bint found = False
    for row in range(matrix.shape[0]):
        for column in range(matrix.shape[1]):
            if matrix[row, column] == 0:
                continue
            if not isfinite(matrix[row, column]):
                return None
            digits = <long long>ldexp(fabs(frexp(matrix[row, column], &exponent)), 53)
            highest = max(highest, exponent) if found else exponent
            exponent -= 53
            while not digits & 1:
                digits >>= 1
                exponent += 1
            lowest = min(lowest, exponent) if found else exponent
            found = True
            if highest - lowest > bits:
                return None
    return lowest


def outer_fit(const double[:, ::1] matrix, double[::1] column, double[::1] row):
    """Fit column * row to a matrix; return the largest |matrix - column * row| / |matrix|, inf where a zero is missed.

    The column by least squares to the row of the largest value, then the row to that column.
    """
    cdef Py_ssize_t i, j, at = 0
    cdef double size, largest = -1, missed, dropped = 0
    cdef long double squares = 0, total  # long rows lose digits
    for i in range(matrix.shape[0]):
        for j in range(matrix.shape[1]):
            size = fabs(matrix[i, j])
            if size > largest:
                largest, at = size, i
    for j in range(matrix.shape[1]):
        row[j] = matrix[at, j] / largest
        squares += row[j] * <long double>row[j]
    for i in range(matrix.shape[0]):
        total = 0
        for j in range(matrix.shape[1]):
            total += row[j] * <long double>matrix[i, j]
        column[i] = <double>(total / squares)
    squares = 0
    for i in range(matrix.shape[0]):
        squares += column[i] * <long double>column[i]
    for j in range(matrix.shape[1]):
        total = 0
        for i in range(matrix.shape[0]):
            total += column[i] * <long double>matrix[i, j]
        row[j] = <double>(total / squares)
    for i in range(matrix.shape[0]):
        for j in range(matrix.shape[1]):
            missed = fabs(matrix[i, j] - column[i] * row[j])
            if missed != 0:  # NaN, too
                missed /= fabs(matrix[i, j])
                if not missed <= dropped:
                    dropped = missed if missed < INFINITY else INFINITY
    return dropped


def between(tuple xs, tuple ys, tuple table, double x, double y):
    """Interpolate a table: a row for each of xs, a column for each of ys, both ascending; beyond it as at its edge."""
    cdef Py_ssize_t row, column, next_row, next_column
    if not xs or not ys or len(table) != len(xs):
        raise ValueError(f"a table of {len(table)} rows does not fit {len(xs)} by {len(ys)} points")
    cdef double down = place(xs, x, &row), along = place(ys, y, &column)
    next_row, next_column = min(row + 1, len(xs) - 1), min(column + 1, len(ys) - 1)
    cdef tuple upper = table[row], lower = table[next_row]
    if len(upper) != len(ys) or len(lower) != len(ys):
        raise ValueError(f"rows of {len(upper)} and {len(lower)} values do not fit {len(ys)} points")
    return (1 - down) * ((1 - along) * <double>upper[column] + along * <double>upper[next_column]) \
        + down * ((1 - along) * <double>lower[column] + along * <double>lower[next_column])


cdef double place(tuple points, double value, Py_ssize_t* at):
    """The last point that is not above a value, and how far it is to the next, 0 to 1."""
    cdef Py_ssize_t last = len(points) - 1
    at[0] = 0
    while at[0] < last and <double>points[at[0] + 1] <= value:
        at[0] += 1
    if at[0] == last or value <= <double>points[0]:
        return 0
    return (value - <double>points[at[0]]) / (<double>points[at[0] + 1] - <double>points[at[0]])
