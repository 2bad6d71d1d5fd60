# Rows in: samples of any type become elements.

cdef inline void fetch_as(const plain* start, Py_ssize_t step, T* to, Py_ssize_t count) noexcept nogil:
    """Convert `count` samples, `step` bytes apart."""
    cdef Py_ssize_t i
    if step == <Py_ssize_t> sizeof(plain):
        for i in range(count):
            to[i] = <T> start[i]
    else:
        for i in range(count):
            to[i] = <T> (<const plain*> (<const char*> start + i * step))[0]


cdef void fetch(int code, const char* start, Py_ssize_t step, T* to, Py_ssize_t count) noexcept nogil:
    """Convert `count` samples of type `code`, `step` bytes apart."""
    cdef Py_ssize_t i
    if code == U1:
        fetch_as[uint8_t](<const uint8_t*> start, step, to, count)
    elif code == I1:
        fetch_as[int8_t](<const int8_t*> start, step, to, count)
    elif code == U2:
        fetch_as[uint16_t](<const uint16_t*> start, step, to, count)
    elif code == I2:
        fetch_as[int16_t](<const int16_t*> start, step, to, count)
    elif code == U4:
        fetch_as[uint32_t](<const uint32_t*> start, step, to, count)
    elif code == I4:
        fetch_as[int32_t](<const int32_t*> start, step, to, count)
    elif code == U8:
        fetch_as[uint64_t](<const uint64_t*> start, step, to, count)
    elif code == I8:
        fetch_as[int64_t](<const int64_t*> start, step, to, count)
    elif code == F4:
        fetch_as[float](<const float*> start, step, to, count)
    elif code == F8:
        fetch_as[double](<const double*> start, step, to, count)
    else:
        for i in range(count):
            to[i] = <T> ce_half_to_float((<const uint16_t*> (start + i * step))[0])
