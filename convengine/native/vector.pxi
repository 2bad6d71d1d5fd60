# vector.h for kernels: the element and vector of this module, as macros say (setup.py's table).
#
# Cython takes both for float: arithmetic is the C compiler's, and nothing here may be converted to or from Python.

from libc.stdint cimport uint16_t


cdef extern from *:
    """
    #ifndef CE_S
    #define CE_S CE_T
    #endif
    """

cdef extern from "vector.h" nogil:
    ctypedef float T "CE_T"                         # of rows;
    ctypedef float S "CE_S"                         # of sums: the same, unless defined before
    ctypedef float ce_vec
    const int CE_LANES
    ce_vec ce_load(const T*)
    ce_vec ce_load_once(const T*)
    ce_vec ce_between(const T*, ce_vec, ce_vec, int)
    const T* ce_forget(const T*)
    void ce_store(T*, ce_vec)
    void ce_stream(T*, ce_vec)
    void ce_fence()
    ce_vec ce_splat(T)
    ce_vec ce_zero()
    T ce_sum(ce_vec)
    void ce_transpose(ce_vec*)
    float ce_half_to_float(uint16_t)

cdef extern from *:
    const size_t CE_VECTOR_BYTES
    const bint CE_FLOATING
    const int CODE "CE_CODE"                        # the element's own, of those in rows.pxi
