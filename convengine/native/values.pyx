# cython: freethreading_compatible=True, language_level=3
"""What stands in a small array: sums, symmetry, how many outer products. One look costs less than one call of NumPy."""

from libc.math cimport INFINITY, fabs, frexp, isfinite, ldexp, sqrt
from libc.stdlib cimport free, malloc

cdef extern from "<complex.h>" nogil:
    double cabs(double complex)

ctypedef double complex complex_t

ctypedef fused number:
    float
    double
    complex_t


cdef inline double size_of(number value) noexcept nogil:
    cdef double square
    if number is complex_t:
        square = value.real * value.real + value.imag * value.imag
        return sqrt(square) if 1e-280 < square < 1e280 else cabs(value)  # which is slow, and never overflows
    else:
        return fabs(value)


cdef enum:
    LANES = 16  # numbers that values go to in turn, so that none waits for the one before

cdef struct look_t:
    double largest, least, sizes, squares
    bint finite, nonnegative, box


cdef look_t look_at(const number* values, Py_ssize_t count, number first) noexcept nogil:
    """What some values hold."""
    cdef double[LANES] largest, least, sizes, squares
    cdef double size
    cdef look_t found = look_t(0, INFINITY, 0, 0, True, number is not complex_t, True)
    cdef Py_ssize_t at, whole = count - count % LANES
    cdef int lane
    for lane in range(LANES):
        largest[lane] = sizes[lane] = squares[lane] = 0
        least[lane] = INFINITY
    for at in range(whole // LANES):
        for lane in range(LANES):
            size = size_of(values[LANES * at + lane])
            largest[lane] = size if size > largest[lane] else largest[lane]
            least[lane] = size if size < least[lane] else least[lane]
            sizes[lane] += size
            squares[lane] += size * size
    for at in range(whole, count):
        size = size_of(values[at])
        largest[0], least[0] = max(largest[0], size), min(least[0], size)
        sizes[0], squares[0] = sizes[0] + size, squares[0] + size * size
    for lane in range(LANES):
        found.largest, found.least = max(found.largest, largest[lane]), min(found.least, least[lane])
        found.sizes, found.squares = found.sizes + sizes[lane], found.squares + squares[lane]
    if not isfinite(found.sizes):  # it may be too large as a sum alone
        for at in range(count):
            found.finite = found.finite and isfinite(size_of(values[at]))
    at = 0
    while at < count and values[at] == first:
        at += 1
    found.box = at == count
    if number is not complex_t:
        at = 0
        while at < count and values[at] >= 0:
            at += 1
        found.nonnegative = at == count
    return found


cdef double squares_of(const number* values, Py_ssize_t count, double scale) noexcept nogil:
    """The sum of squares of values over the scale."""
    cdef double total = 0, size
    cdef Py_ssize_t at
    for at in range(count):
        size = size_of(values[at]) / scale
        total += size * size
    return total


def look(const number[:, ::1] rows, tuple shape):
    """What rows of values hold, each row some arrays of one shape.

    Returns
    -------
    most, norm, least, largest : float
        Largest sum of absolute values and largest 2-norm of a row, the smallest and the largest absolute value; inf,
        inf, 0, inf where a value is not finite. In float64, in any order: exact for whole numbers that add up to less
        than 2**26.
    box, nonnegative : bool
        Whether all values are one; whether none is negative, NaN or complex.
    symmetry : tuple of str
        "even", "odd" or "" under a flip of each axis of the shape.
    """
    cdef Py_ssize_t row, axis, after, n, columns = rows.shape[1], count = rows.shape[0] * rows.shape[1]
    cdef double most = 0, norm = 0, largest = 0, least = INFINITY, scale
    cdef bint finite = True, nonnegative = number is not complex_t, box = count > 0
    cdef look_t found
    cdef list symmetry = []
    if count:
        for row in range(rows.shape[0]):
            found = look_at(&rows[row, 0], columns, rows[0, 0])
            finite, nonnegative, box = finite and found.finite, nonnegative and found.nonnegative, box and found.box
            most, norm = max(most, found.sizes), max(norm, sqrt(found.squares))
            largest, least = max(largest, found.largest), min(least, found.least)
    finite = finite and largest < INFINITY
    if finite and largest and not 1e-100 < largest < 1e100:  # squares overflow or vanish
        norm, scale = 0, largest
        for row in range(rows.shape[0]):
            norm = max(norm, scale * sqrt(squares_of(&rows[row, 0], columns, scale)))
    after = 1
    for axis in range(len(shape)):
        after *= shape[axis]
    if after and columns % after:
        raise ValueError(f"rows of {columns} values hold no arrays of shape {shape}")
    for axis in range(len(shape)):
        n = shape[axis]
        after //= max(n, 1)
        symmetry.append(flip(rows, n, after) if count else "even")
    if not finite:
        return INFINITY, INFINITY, 0.0, INFINITY, box, nonnegative, tuple(symmetry)
    return most, norm, least if count else 0.0, largest, box, nonnegative, tuple(symmetry)


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


cdef double largest_of(const number* values, Py_ssize_t count) noexcept nogil:
    """The largest of |values|, not NaN; -1 if there is none."""
    cdef double largest[LANES]
    cdef double size
    cdef Py_ssize_t at, whole = count - count % LANES
    cdef int lane
    for lane in range(LANES):
        largest[lane] = -1
    for at in range(whole // LANES):
        for lane in range(LANES):
            size = size_of(values[LANES * at + lane])
            largest[lane] = size if size > largest[lane] else largest[lane]
    for at in range(whole, count):
        largest[0] = max(largest[0], size_of(values[at]))
    for lane in range(1, LANES):
        largest[0] = max(largest[0], largest[lane])
    return largest[0]


cdef enum:
    SOME = 6  # rows and columns that are looked at before all are: nearly every matrix of a high rank shows it there


def crosses(const number[:, ::1] matrix, double share, Py_ssize_t limit, double largest):
    """How many crosses leave nothing above a share of the largest value of a matrix; and whether so many do.

    A cross is the column of the largest entry times its row over that entry. None, and it is so, for zeros and where
    the share under- or overflows.
    """
    cdef complex_t some[SOME * SOME]
    if number is complex_t:
        return _crosses(matrix, share * largest, limit, some)
    else:
        return _crosses(matrix, share * largest, limit, <double*>some)


ctypedef fused wide:  # in which crosses are taken away
    double
    complex_t


cdef inline void put(wide* place, number value) noexcept nogil:
    if wide is complex_t or number is not complex_t:  # no other is asked for
        place[0] = value


cdef _crosses(const number[:, ::1] matrix, double noise, Py_ssize_t limit, wide* some):
    cdef Py_ssize_t rows = matrix.shape[0], columns = matrix.shape[1], rank, row, column
    cdef wide* left
    if not 0 < noise < INFINITY:
        return 0, True
    if limit < SOME <= min(rows, columns):
        for row in range(SOME):
            for column in range(SOME):
                put(some + row * SOME + column,
                    matrix[row * (rows - 1) // (SOME - 1), column * (columns - 1) // (SOME - 1)])
        if rank_of(some, SOME, SOME, noise, limit) < 0:
            return limit, False
    left = <wide*>malloc(rows * columns * sizeof(wide))
    if left == NULL:
        raise MemoryError
    for row in range(rows):
        for column in range(columns):
            put(left + row * columns + column, matrix[row, column])
    rank = rank_of(left, rows, columns, noise, limit)
    free(left)
    return (limit, False) if rank < 0 else (rank, True)


cdef Py_ssize_t rank_of(
        wide* left, Py_ssize_t rows, Py_ssize_t columns, double noise, Py_ssize_t limit) noexcept nogil:
    """How many crosses, taken from `left`, leave nothing above the noise; -1 if more than the limit."""
    cdef Py_ssize_t rank, row, column, at
    cdef double most
    cdef wide factor
    cdef wide* pivot
    for rank in range(limit + 1):
        most = largest_of(left, rows * columns)
        if most <= noise:
            return rank
        if rank == limit:
            break
        at = 0
        while at + 1 < rows * columns and not size_of(left[at]) >= most:  # bounded, however a compiler rounds it
            at += 1
        pivot = left + at // columns * columns
        at %= columns
        for row in range(rows):
            if left + row * columns != pivot:
                factor = left[row * columns + at] / pivot[at]
                for column in range(columns):
                    left[row * columns + column] = left[row * columns + column] - factor * pivot[column]
        for column in range(columns):
            pivot[column] = 0
    return -1


cdef enum:
    BITS = 31  # of whole numbers whose products are exact in 64 bits


cdef bint are_whole(const double[:, ::1] matrix) noexcept nogil:
    """Whether all values are whole numbers below 2**BITS."""
    cdef Py_ssize_t row, column
    cdef double value
    for row in range(matrix.shape[0]):
        for column in range(matrix.shape[1]):
            value = matrix[row, column]
            if not fabs(value) < 1LL << BITS or <double><long long>value != value:
                return False
    return True


cdef bint find_unit(const double[:, ::1] matrix, int* unit) noexcept nogil:
    """The largest power of two, as its exponent, of which all values are whole multiples below 2**BITS; 0 for zeros."""
    cdef Py_ssize_t row, column
    cdef long long digits
    cdef int exponent, lowest = 0, highest = 0
    cdef bint found = False
    for row in range(matrix.shape[0]):
        for column in range(matrix.shape[1]):
            if matrix[row, column] == 0:
                continue
            if not isfinite(matrix[row, column]):
                return False
            digits = <long long>ldexp(fabs(frexp(matrix[row, column], &exponent)), 53)
            highest = max(highest, exponent) if found else exponent
            exponent -= 53
            while not digits & 1:
                digits >>= 1
                exponent += 1
            lowest = min(lowest, exponent) if found else exponent
            found = True
            if highest - lowest > BITS:
                return False
    unit[0] = lowest
    return True


cdef inline long long multiple(double value, double scale, double again) noexcept nogil:
    return <long long>(value * scale * again)  # twice, as one power of two may pass the range; each product is exact


def whole_fit(const double[:, ::1] matrix, bint scaled, double[::1] column, double[::1] row):
    """Fit column * row to a matrix of whole numbers, or, if `scaled`, of their multiples by a power of two.

    Returns whether every product is its entry; else what column and row hold says nothing. The row is that of the
    largest value, divided by the greatest common divisor of its entries.
    """
    cdef int unit = 0
    if not are_whole(matrix) and not (scaled and find_unit(matrix, &unit)):
        return False
    cdef double scale = ldexp(1.0, -(unit // 2)), again = ldexp(1.0, unit // 2 - unit)
    cdef Py_ssize_t i, j, at = 0, pivot = 0
    cdef long long value, size, largest = -1, divisor = 0, other
    for i in range(matrix.shape[0]):
        for j in range(matrix.shape[1]):
            size = abs(multiple(matrix[i, j], scale, again))
            if size > largest:
                largest, at, pivot = size, i, j
    for j in range(matrix.shape[1]):
        size = abs(multiple(matrix[at, j], scale, again))
        while size:
            other = divisor % size if divisor else 0
            divisor, size = size, other
    if divisor == 0:  # zeros
        column[:] = 0
        row[:] = 0
        return True
    for j in range(matrix.shape[1]):
        row[j] = multiple(matrix[at, j], scale, again) // divisor
    for i in range(matrix.shape[0]):
        value = multiple(matrix[i, pivot], scale, again)
        other = value // <long long>row[pivot]
        for j in range(matrix.shape[1]):
            if other * <long long>row[j] != multiple(matrix[i, j], scale, again):
                return False
        column[i] = ldexp(<double>other, unit)
    return True


def power_above(double value):
    """Round up to a power of two; a number that is 0 or not finite stays as it is, and none above the range is inf."""
    cdef int exponent
    cdef double part
    if not 0 < value < INFINITY:
        return value
    part = frexp(value, &exponent)  # part * 2**exponent, 1/2 <= part < 1; a logarithm would round
    return ldexp(1.0, exponent - (part == 0.5))


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
