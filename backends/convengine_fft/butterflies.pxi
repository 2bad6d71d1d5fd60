# One stage of a transform: groups of `radix` vectors of samples, each lane a transform of its own.
#
# Real and imaginary parts lie in planes of their own, vectors `step` elements apart. Forward by decimation in
# frequency, inverse by decimation in time, so that neither needs its samples reordered: a stage of `blocks` blocks
# takes the vectors j, j + span, j + 2 span, ... of each, for all j below `span`. Every stage is written once, and
# inlined with a literal radix: a place in a tile meets the same operations wherever the samples came from, so its bits
# depend on the tile alone.

cdef enum:
    LARGEST = 8                                     # radix: 8 complex vectors, half of AVX-512's registers

cdef extern from *:
    """
    #define ROOT_HALF ((CE_T)0.70710678118654752440L)
    """
    T ROOT_HALF


cdef inline void dft4(ce_vec* re, ce_vec* im, int a, int b, int c, int d, const bint forward) noexcept nogil:
    """Transform four places in order."""
    cdef ce_vec even_re = re[a] + re[c], even_im = im[a] + im[c], odd_re = re[b] + re[d], odd_im = im[b] + im[d]
    cdef ce_vec first_re = re[a] - re[c], first_im = im[a] - im[c], turn_re, turn_im
    if forward:                                     # (b - d) times -i, or i
        turn_re, turn_im = im[b] - im[d], re[d] - re[b]
    else:
        turn_re, turn_im = im[d] - im[b], re[b] - re[d]
    re[a], im[a] = even_re + odd_re, even_im + odd_im
    re[b], im[b] = first_re + turn_re, first_im + turn_im
    re[c], im[c] = even_re - odd_re, even_im - odd_im
    re[d], im[d] = first_re - turn_re, first_im - turn_im


cdef inline void dft8(ce_vec* re, ce_vec* im, const bint forward) noexcept nogil:
    cdef ce_vec half = ce_splat(ROOT_HALF)
    cdef ce_vec odd_re[4]
    cdef ce_vec odd_im[4]
    cdef ce_vec even_re[4]
    cdef ce_vec even_im[4]
    cdef int k
    dft4(re, im, 0, 2, 4, 6, forward)
    dft4(re, im, 1, 3, 5, 7, forward)
    for k in range(4):
        even_re[k], even_im[k] = re[2 * k], im[2 * k]
    odd_re[0], odd_im[0] = re[1], im[1]
    if forward:                                     # times exp(-i pi k / 4), the roots of one half multiplied below
        odd_re[1], odd_im[1] = re[3] + im[3], im[3] - re[3]
        odd_re[2], odd_im[2] = im[5], -re[5]
        odd_re[3], odd_im[3] = im[7] - re[7], -re[7] - im[7]
    else:
        odd_re[1], odd_im[1] = re[3] - im[3], im[3] + re[3]
        odd_re[2], odd_im[2] = -im[5], re[5]
        odd_re[3], odd_im[3] = -im[7] - re[7], re[7] - im[7]
    for k in range(0, 4, 2):
        re[k], im[k] = even_re[k] + odd_re[k], even_im[k] + odd_im[k]
        re[k + 4], im[k + 4] = even_re[k] - odd_re[k], even_im[k] - odd_im[k]
    for k in range(1, 4, 2):
        re[k], im[k] = even_re[k] + odd_re[k] * half, even_im[k] + odd_im[k] * half
        re[k + 4], im[k + 4] = even_re[k] - odd_re[k] * half, even_im[k] - odd_im[k] * half


cdef inline void dft(ce_vec* re, ce_vec* im, const int radix, const bint forward) noexcept nogil:
    if radix == 8:
        dft8(re, im, forward)
    else:
        dft4(re, im, 0, 1, 2, 3, forward)


cdef inline void multiply(ce_vec* re, ce_vec* im, ce_vec root_re, ce_vec root_im, const bint forward) noexcept nogil:
    """Multiply by a root, or by its conjugate."""
    cdef ce_vec old = re[0]
    if forward:
        re[0] = old * root_re - im[0] * root_im
        im[0] = old * root_im + im[0] * root_re
    else:
        re[0] = old * root_re + im[0] * root_im
        im[0] = im[0] * root_re - old * root_im


cdef inline void turn(ce_vec* re, ce_vec* im, const T* roots, const int radix, const bint forward) noexcept nogil:
    """Multiply all places but the first by their roots of unity, which are (re, im) pairs."""
    cdef int q
    for q in range(1, radix):
        multiply(re + q, im + q, ce_splat(roots[2 * q - 2]), ce_splat(roots[2 * q - 1]), forward)


cdef inline void get(const T* re_plane, const T* im_plane, Py_ssize_t apart, ce_vec* re, ce_vec* im,
                     const int radix) noexcept nogil:
    cdef int q
    for q in range(radix):
        re[q] = ce_load(re_plane + q * apart)
        im[q] = ce_load(im_plane + q * apart)


cdef inline void put(T* re_plane, T* im_plane, Py_ssize_t apart, const ce_vec* re, const ce_vec* im,
                     const int radix) noexcept nogil:
    cdef int q
    for q in range(radix):
        ce_store(re_plane + q * apart, re[q])
        ce_store(im_plane + q * apart, im[q])


cdef inline void stage(T* re_plane, T* im_plane, Py_ssize_t step, Py_ssize_t blocks, Py_ssize_t span, Py_ssize_t apart,
                       const T* roots, const int radix, const bint forward) noexcept nogil:
    """A stage in place. What is `span` places on lies `apart` vectors on."""
    cdef ce_vec re[LARGEST]
    cdef ce_vec im[LARGEST]
    cdef Py_ssize_t b, j
    for b in range(blocks):
        for j in range(span):
            get(re_plane, im_plane, apart * step, re, im, radix)
            if not forward:
                turn(re, im, roots + j * 2 * (radix - 1), radix, forward)
            dft(re, im, radix, forward)
            if forward:
                turn(re, im, roots + j * 2 * (radix - 1), radix, forward)
            put(re_plane, im_plane, apart * step, re, im, radix)
            re_plane += step
            im_plane += step
        re_plane += (radix * apart - span) * step
        im_plane += (radix * apart - span) * step


cdef inline void inner_stage(T* re_plane, T* im_plane, Py_ssize_t step, Py_ssize_t blocks, const T* bends,
                             Py_ssize_t bends_im, Py_ssize_t bends_step, const int radix,
                             const bint forward) noexcept nogil:
    """The stage of span 1, whose roots are 1: last forward, first back. Its places may be bent, each by its own root.

    What is bent is one long transform in two passes: between them each sample is multiplied by a root of the long one.
    """
    cdef ce_vec re[LARGEST]
    cdef ce_vec im[LARGEST]
    cdef Py_ssize_t b
    cdef int q
    for b in range(blocks):
        get(re_plane, im_plane, step, re, im, radix)
        if forward:
            dft(re, im, radix, forward)
        if bends != NULL:
            for q in range(radix):
                multiply(re + q, im + q, ce_load(bends), ce_load(bends + bends_im), forward)
                bends += bends_step
        if not forward:
            dft(re, im, radix, forward)
        put(re_plane, im_plane, step, re, im, radix)
        re_plane += radix * step
        im_plane += radix * step


cdef inline void product_stage(T* re_plane, T* im_plane, Py_ssize_t blocks, const T* spectrum,
                               const int radix) noexcept nogil:
    """The inner stages forward and back of adjacent vectors, and the product with the kernel's spectrum between."""
    cdef ce_vec re[LARGEST]
    cdef ce_vec im[LARGEST]
    cdef Py_ssize_t b
    cdef int q
    for b in range(blocks):
        get(re_plane, im_plane, CE_LANES, re, im, radix)
        dft(re, im, radix, True)
        for q in range(radix):
            multiply(re + q, im + q, ce_load(spectrum), ce_load(spectrum + CE_LANES), True)
            spectrum += 2 * CE_LANES
        dft(re, im, radix, False)
        put(re_plane, im_plane, CE_LANES, re, im, radix)
        re_plane += radix * CE_LANES
        im_plane += radix * CE_LANES


cdef inline void entry_stage(const T* const* one, const T* const* other, T one_scale, T other_scale, T* re_plane,
                             T* im_plane, Py_ssize_t step, Py_ssize_t vectors, Py_ssize_t span, const T* roots,
                             double* energies, const int radix) noexcept nogil:
    """The first stage of all columns, from rows by pointer; these may be the planes' own.

    Adds up the squares of both tiles as scaled, in elements for some rows, then in double.
    """
    cdef ce_vec re[LARGEST]
    cdef ce_vec im[LARGEST]
    cdef ce_vec one_squares, other_squares
    cdef Py_ssize_t j, v, c
    cdef int q
    for j in range(span):
        one_squares = other_squares = ce_zero()
        for v in range(vectors):
            c = v * CE_LANES
            for q in range(radix):
                re[q] = ce_load(one[j + q * span] + c) * ce_splat(one_scale)
                im[q] = ce_load(other[j + q * span] + c) * ce_splat(other_scale)
            for q in range(radix):
                one_squares = one_squares + re[q] * re[q]
                other_squares = other_squares + im[q] * im[q]
            dft(re, im, radix, True)
            turn(re, im, roots + j * 2 * (radix - 1), radix, True)
            put(re_plane + j * step + c, im_plane + j * step + c, span * step, re, im, radix)
        energies[0] += <double> ce_sum(one_squares)
        energies[1] += <double> ce_sum(other_squares)


cdef inline void exit_stage(const T* re_plane, const T* im_plane, Py_ssize_t step, Py_ssize_t vectors,
                            Py_ssize_t last, Py_ssize_t span, const T* roots, T* const* one, T* const* other,
                            const T* one_scales, const T* other_scales, T bias, const int radix) noexcept nogil:
    """The last stage of all columns, to rows by pointer, scaled twice. No vector begins beyond `last`."""
    cdef ce_vec re[LARGEST]
    cdef ce_vec im[LARGEST]
    cdef Py_ssize_t j, v, c
    cdef int q
    for j in range(span):
        for v in range(vectors):
            c = min(v * CE_LANES, last)
            get(re_plane + j * step + c, im_plane + j * step + c, span * step, re, im, radix)
            turn(re, im, roots + j * 2 * (radix - 1), radix, False)
            dft(re, im, radix, False)
            for q in range(radix):
                ce_store(one[j + q * span] + c, re[q] * ce_splat(one_scales[0]) * ce_splat(one_scales[1])
                         + ce_splat(bias))
                ce_store(other[j + q * span] + c, im[q] * ce_splat(other_scales[0]) * ce_splat(other_scales[1])
                         + ce_splat(bias))
