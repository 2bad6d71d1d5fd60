# The filters of the methods that pass a band twice (strips.pxi).

cdef class SeparableFilter(DirectFilter):
    """A kernel as the sum of outer products: columns (rank, height) and rows (rank, width), in the sum's dtype."""

    cdef object columns, rows, order

    def __init__(self, layout, out_shape, out_dtype, x_item_size, empty, columns, rows):
        DirectFilter.__init__(self, layout, out_shape, out_dtype, x_item_size, empty)
        cdef Work* w = &self.work
        order = summation_order(w.widths[2])
        self.columns = np.zeros((len(columns), columns.shape[1] + TALL - 1, TALL), columns.dtype)
        for row in range(TALL):
            self.columns[:, row:row + columns.shape[1], row] = columns
        self.rows = np.ascontiguousarray(rows[:, order])
        self.order = np.ascontiguousarray(order, np.intp)
        w.down, w.across = <const T*> address(self.columns), <const T*> address(self.rows)
        w.order = <const Py_ssize_t*> address(self.order)
        w.rank = <int> len(rows)
        w.two_passes, w.products = True, w.rank * (w.widths[1] + w.widths[2])
        self.total = w.products * w.out_sizes[0] * w.out_sizes[1] * w.out_sizes[2]


cdef class BoxFilter(DirectFilter):
    """A kernel of equal whole taps, of stride and dilation 1."""

    def __init__(self, layout, out_shape, out_dtype, x_item_size, empty):
        DirectFilter.__init__(self, layout, out_shape, out_dtype, x_item_size, empty)
        cdef Work* w = &self.work
        w.two_passes, w.products = True, BOX_PRODUCTS
        self.total = w.products * w.out_sizes[0] * w.out_sizes[1] * w.out_sizes[2]
