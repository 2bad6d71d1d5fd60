# cython: freethreading_compatible=True, language_level=3
"""The warm path: from the arguments of an operation to its prepared filter in one look-up, for calls that came before.

A call costs about as much to read as a filter of a small image takes to run, many times over. So what a call said is
kept with the filter that served it, and the same words find it again:

- An array is known by dtype and shape; the kernel and the bias also by content, which is copied: an entry keeps no
  array of the user's alive. Only plain arrays are known: no subclass, NumPy's own dtypes in native byte order.
- A keyword is known by identity, or by type and value if it is a string, number or tuple of these. Values that could
  change under the same identity are never kept.
- What the options in force are drawn from, the context's, the process's and the environment's, is known by identity.

Everything is compared before a filter runs; the hash only finds what to compare with. What is not found here takes the
ordinary way through the engine, and so does what fails here: that way knows the words of every error.

Threads: entries and chains are immutable, the dict that holds them is never replaced, and only writers take a lock.
"""

import threading

cimport numpy as cnp
from cpython.contextvars cimport PyContextVar_Get, PyContextVar_Reset, PyContextVar_Set
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcmp, memcpy

import numpy as np

cnp.import_array()

cdef enum:
    MOST_AXES = 8                  # of x, kernel and bias
    HEAD = 3 * (2 + MOST_AXES) + 1  # words that describe three arrays, and out's dtype
    MOST_CONTENT = 1 << 18         # bytes of kernel and bias: comparing more would cost more than it saves
    DEPTH = 3                      # tuples in tuples that a keyword may hold: padding has two
    MOST_ALIKE = 16                # entries of one digest: mostly calls that differ in the options in force
    DEBUG_LEVEL = 10               # logging.DEBUG

cdef frozenset SCALAR_TYPES = frozenset(np.sctypeDict.values()) | {bool, int, float, complex}


# ---- words for the look-up

cdef inline uint64_t mixed(uint64_t seed, uint64_t word) noexcept:
    seed = (seed ^ word) * <uint64_t> 0x9E3779B97F4A7C15
    return seed ^ (seed >> 29)


cdef uint64_t mixed_bytes(uint64_t seed, const char* at, Py_ssize_t count) noexcept:
    cdef uint64_t word
    while count >= 8:
        memcpy(&word, at, 8)
        seed = mixed(seed, word)
        at += 8
        count -= 8
    word = 0
    memcpy(&word, at, count)
    return mixed(seed, word)


cdef inline uint64_t float_bits(object value) noexcept:
    cdef double number = <double> value
    cdef uint64_t bits
    memcpy(&bits, &number, 8)
    return bits


cdef uint64_t digest(object value, int depth) except? 0:
    """A number that values have in common if `same` finds them the same."""
    cdef type kind = type(value)
    cdef uint64_t seed = 1
    if kind is str or kind is int:
        return <uint64_t> hash(value)
    if kind is float:
        return float_bits(value)
    if kind is tuple and depth < DEPTH:
        for item in <tuple> value:
            seed = mixed(seed, digest(item, depth + 1))
        return seed
    return <uint64_t> <size_t> <void*> value


cdef bint same(object one, object other, int depth) except -1:
    """Whether two values mean the same to every reader: 1, 1.0 and True do not, nor 0.0 and -0.0."""
    cdef type kind = type(one)
    if one is other:
        return True
    if kind is not type(other):
        return False
    if kind is str or kind is int:
        return one == other
    if kind is float:
        return float_bits(one) == float_bits(other)
    if kind is tuple and depth < DEPTH and len(<tuple> one) == len(<tuple> other):
        for index in range(len(<tuple> one)):
            if not same((<tuple> one)[index], (<tuple> other)[index], depth + 1):
                return False
        return True
    return False


cdef bint lasting(object value, int depth) except -1:
    """Whether a value can never change: only then may it stand for itself later."""
    cdef type kind = type(value)
    if value is None or kind in (bool, int, float, complex, str):
        return True
    if kind is tuple:
        return depth <= DEPTH and all([lasting(item, depth + 1) for item in <tuple> value])
    if kind is type:
        return value in SCALAR_TYPES
    return isinstance(value, np.dtype) and is_builtin(value.num, <PyObject*> value)


# ---- arrays

cdef inline bint is_builtin(int number, PyObject* dtype):
    """Whether a dtype is NumPy's own of its number, in native byte order and without metadata."""
    if number > cnp.NPY_CLONGDOUBLE and number != cnp.NPY_FLOAT16:
        return False
    cdef cnp.dtype plain = cnp.PyArray_DescrFromType(number)
    return <PyObject*> plain == dtype


cdef int described(object array, int64_t* words):
    """Write dtype and shape of an array; how many words these are, 0 if it is not plain."""
    if type(array) is not cnp.ndarray:
        return 0
    cdef cnp.ndarray plain = <cnp.ndarray> array
    cdef int ndim = cnp.PyArray_NDIM(plain), number = cnp.PyArray_TYPE(plain), axis
    if ndim > MOST_AXES or not cnp.PyArray_ISALIGNED(plain) \
            or not is_builtin(number, <PyObject*> cnp.PyArray_DESCR(plain)):
        return 0
    words[0] = number
    words[1] = ndim
    for axis in range(ndim):
        words[2 + axis] = cnp.PyArray_DIM(plain, axis)
    return 2 + ndim


cdef object contiguous(object value):
    """Return an array's samples in one piece, so that they compare as bytes; anything else as it is."""
    if type(value) is not cnp.ndarray or cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray> value) \
            or cnp.PyArray_NBYTES(<cnp.ndarray> value) > MOST_CONTENT:
        return value
    return cnp.PyArray_GETCONTIGUOUS(<cnp.ndarray> value)


cdef inline const char* content(object array):
    return <const char*> cnp.PyArray_DATA(<cnp.ndarray> array)


cdef void reach(cnp.ndarray array, size_t* low, size_t* high):
    """Find the addresses that an array of at least one sample lies between."""
    cdef Py_ssize_t step
    cdef int axis
    low[0] = <size_t> cnp.PyArray_DATA(array)
    high[0] = low[0] + cnp.PyArray_ITEMSIZE(array)
    for axis in range(cnp.PyArray_NDIM(array)):
        step = (cnp.PyArray_DIM(array, axis) - 1) * cnp.PyArray_STRIDE(array, axis)
        if step < 0:
            low[0] += step
        else:
            high[0] += step


cdef bint is_writable(cnp.ndarray out, cnp.ndarray x):
    """Whether results may go straight there: each to a place of its own, and none where x lies. True is certain."""
    cdef Py_ssize_t held = cnp.PyArray_ITEMSIZE(out), step
    cdef size_t low, high, x_low, x_high
    cdef int axis
    if not cnp.PyArray_ISWRITEABLE(out):
        return False
    for axis in range(cnp.PyArray_NDIM(out) - 1, -1, -1):  # as in C order, with gaps or backwards
        if cnp.PyArray_DIM(out, axis) > 1:
            step = abs(cnp.PyArray_STRIDE(out, axis))
            if step < held:
                return False
            held = step * cnp.PyArray_DIM(out, axis)
    reach(out, &low, &high)
    reach(x, &x_low, &x_high)
    return high <= x_low or x_high <= low


# ---- calls

cdef struct Words:
    int64_t head[HEAD]
    int count
    uint64_t digest


cdef class Entry:
    """What a call said, and the filter that serves it. Immutable."""

    cdef uint64_t digest
    cdef Py_ssize_t nbytes
    cdef bytes head, kernel   # dtypes and shapes; content
    cdef object bias          # content, or what is no array
    cdef tuple said, standing
    cdef object filter, settle, x_axes, out_axes, workers
    cdef int out_type, out_ndim
    cdef cnp.npy_intp out_shape[MOST_AXES]

    cdef bint answers(self, Words* words, object kernel, object bias, tuple said) except -1:
        """Whether a call says the same."""
        cdef Py_ssize_t index, count
        if words.digest != self.digest or words.count * 8 != len(self.head) \
                or memcmp(words.head, <const char*> self.head, words.count * 8) != 0 \
                or memcmp(content(kernel), <const char*> self.kernel, len(self.kernel)) != 0:
            return False
        if type(bias) is cnp.ndarray:  # the head says how large
            count = cnp.PyArray_NBYTES(<cnp.ndarray> bias)
            if memcmp(content(bias), <const char*> <bytes> self.bias, count) != 0:
                return False
        elif not same(bias, self.bias, 0):
            return False
        if len(said) != len(self.said):
            return False
        for index in range(len(said)):
            if said[index] is not self.said[index] and not same(said[index], self.said[index], 0):
                return False
        return True

    cdef bint takes(self, cnp.ndarray out, cnp.ndarray x) except -1:
        """Whether results may go straight into an array of their dtype; what is wrong with others is said elsewhere."""
        if cnp.PyArray_NDIM(out) != self.out_ndim:
            return False
        if memcmp(cnp.PyArray_DIMS(out), self.out_shape, self.out_ndim * sizeof(cnp.npy_intp)) != 0:
            return False
        return is_writable(out, x)

    cdef object serve(self, x, out, variable):
        """The result of a call whose words were compared; None where it can't go straight to out."""
        if out is None:
            result = cnp.PyArray_EMPTY(self.out_ndim, self.out_shape, self.out_type, 0)
        elif self.takes(out, x):
            result = out
        else:
            return None
        token = None if self.workers is None else PyContextVar_Set(variable, self.workers)
        try:
            return self.run(x, result)
        finally:
            if token is not None:
                PyContextVar_Reset(variable, token)

    cdef object run(self, cnp.ndarray x, object result):
        """Filter x into result."""
        if self.x_axes is None:
            view, target = x, result
        else:
            view, target = x.transpose(self.x_axes), result.transpose(self.out_axes)
        returned = self.filter(view, target)
        if returned is not target:
            self.settle(returned, target)
        return result


cdef Entry entry_of(filter, settle, tuple out_shape, out_dtype, axes, workers):
    """An entry that says what to do, but not yet for which call."""
    cdef Entry entry = Entry()
    cdef int axis
    entry.filter, entry.settle, entry.workers = filter, settle, workers
    entry.x_axes, entry.out_axes = (None, None) if axes is None else axes
    entry.out_type, entry.out_ndim = out_dtype.num, len(out_shape)
    for axis in range(entry.out_ndim):
        entry.out_shape[axis] = out_shape[axis]
    return entry


cdef class Planned:
    """One call that is not looked up: its filter, for plain arrays of one dtype and shape.

    Parameters
    ----------
    shape, dtype
        Of x.
    variable : ContextVar
        How many workers a filter may use.
    logs : callable
        As for `Table`.
    filter, settle, out_shape, out_dtype, axes, workers
        As `Table.keep` takes them.
    """

    cdef Entry entry
    cdef object variable, logs

    def __init__(self, tuple shape, dtype, *, variable, logs, filter, settle, tuple out_shape, out_dtype, axes,
                 workers):
        cdef int64_t[2 + MOST_AXES] words
        cdef int count, axis
        if len(shape) > MOST_AXES or len(out_shape) > MOST_AXES:
            raise ValueError(f"a planned call has at most {MOST_AXES} axes; got {len(shape)}")
        self.variable, self.logs = variable, logs
        self.entry = entry_of(filter, settle, out_shape, out_dtype, axes, workers)
        words[0], words[1] = dtype.num, len(shape)
        for axis in range(len(shape)):
            words[2 + axis] = shape[axis]
        count = 2 + len(shape)
        self.entry.head = (<const char*> words)[:count * 8]

    def run(self, x, out):
        """Filter x, into out if given; None where the ordinary way must be taken."""
        cdef int64_t[2 + MOST_AXES] words
        cdef int count = described(x, words)
        if count * 8 != len(self.entry.head) or memcmp(words, <const char*> self.entry.head, count * 8) != 0:
            return None
        if out is not None and (type(out) is not cnp.ndarray or not cnp.PyArray_ISALIGNED(<cnp.ndarray> out)
                                or cnp.PyArray_TYPE(<cnp.ndarray> out) != self.entry.out_type
                                or not is_builtin(self.entry.out_type,
                                                  <PyObject*> cnp.PyArray_DESCR(<cnp.ndarray> out))):
            return None
        if self.logs(DEBUG_LEVEL):
            return None
        try:
            return self.entry.serve(x, out, self.variable)
        except (Exception, SystemExit):  # the ordinary way tries others, or says what is wrong
            return None


cdef class Table:
    """The calls that came before: `run` looks one up and runs it, `keep` adds one.

    Parameters
    ----------
    context, workers : ContextVar
        Of the options, and of how many workers a filter may use.
    settings : dict
        Holds the options of the process under "_process".
    environment : mapping
        The environment, as it stands under os.environ: a dict, or this would be slow.
    names : tuple
        Its keys that say options.
    logs : callable
        Whether messages of a level are written; what runs is one at DEBUG.
    defaults : tuple
        What keywords mostly are, in the order of `said` below.
    limit : int
        Bytes that entries may hold together: beyond, all of them go. A sixteenth is the most for one.
    """

    cdef object context, workers, logs, lock, environment
    cdef dict settings, entries
    cdef tuple names, defaults
    cdef Py_ssize_t limit, used

    def __init__(self, *, context, workers, dict settings, environment, tuple names, logs, tuple defaults,
                 Py_ssize_t limit):
        self.context, self.workers, self.logs = context, workers, logs
        self.settings, self.environment, self.names = settings, environment, names
        self.defaults, self.limit = defaults, limit
        self.entries = {}  # by digest: chains of entries
        self.renew()

    def renew(self):
        """Start empty with a lock of its own: a forked child may find it in the hands of a thread that it lacks."""
        self.lock = threading.Lock()
        self.entries.clear()
        self.used = 0

    def clear(self):
        """Forget every call."""
        with self.lock:
            self.entries.clear()
            self.used = 0

    def __len__(self):
        """How many calls are kept."""
        return sum([len(<tuple> chain) for chain in list(self.entries.values())])

    def run(self, x, kernel, out, bias, *said):
        """Run a call that came before.

        Parameters
        ----------
        x, kernel, out, bias
            As the operation got them.
        *said
            The operation's name and every other keyword.

        Returns
        -------
        array or None
            The result; None where the ordinary way must be taken.
        """
        cdef Words words
        kernel, bias = contiguous(kernel), contiguous(bias)
        cdef Entry entry = self.find(&words, x, kernel, out, bias, said)
        if entry is None or self.logs(DEBUG_LEVEL):
            return None
        try:
            return entry.serve(x, out, self.workers)
        except (Exception, SystemExit):  # the ordinary way tries others, or says what is wrong
            self.drop(entry)
            return None

    def keep(self, x, kernel, out, bias, tuple said, *, tuple standing, filter, settle, tuple out_shape, out_dtype,
             axes, workers, Py_ssize_t nbytes):
        """Keep a call that ran, if it can be told from others for good.

        Parameters
        ----------
        x, kernel, out, bias, said
            As `run` takes them.
        standing : tuple
            What the options in force were drawn from: the context's, the process's, the environment's values.
        filter : callable
            ``filter(x, target)``, as backends make them.
        settle : callable
            ``settle(returned, target)``, where a filter hands back an array of its own.
        out_shape, out_dtype
            Of the result.
        axes : tuple of tuples, or None
            How x and the result are transposed for the filter; None: they are not.
        workers : int, optional
            How many it may use.
        nbytes : int
            What keeping the filter holds.
        """
        cdef Words words
        cdef Entry entry
        kernel, bias = contiguous(kernel), contiguous(bias)
        if self.find(&words, x, kernel, out, bias, said) is not None or words.count == 0:
            return
        if not lasting(said, 0) or not (type(bias) is cnp.ndarray or lasting(bias, 0)):
            return
        if len(out_shape) > MOST_AXES or out_dtype != cnp.PyArray_DescrFromType(out_dtype.num):
            return
        entry = entry_of(filter, settle, out_shape, out_dtype, axes, workers)
        entry.digest = words.digest
        entry.head = (<const char*> words.head)[:words.count * 8]
        entry.kernel = kernel.tobytes()
        entry.bias = bias.tobytes() if type(bias) is cnp.ndarray else bias
        entry.said, entry.standing = said, standing
        entry.nbytes = nbytes + len(entry.kernel)
        if entry.nbytes <= self.limit // 16:
            self.add(entry)

    cdef Entry find(self, Words* words, x, kernel, out, bias, tuple said):
        """The entry for a call, or None; `words` then has a count of 0 if no entry can stand for it."""
        cdef tuple chain
        cdef Entry entry
        words.count = 0
        if not self.describe(words, x, kernel, out, bias, said):
            return None
        chain = <tuple> self.entries.get(words.digest)
        if chain is None:
            return None
        for entry in chain:
            if entry.answers(words, kernel, bias, said) and self.stands(entry.standing):
                return entry
        return None

    cdef bint describe(self, Words* words, x, kernel, out, bias, tuple said) except -1:
        """Put a call into words, and these into a digest; False where one of its arrays is not plain."""
        cdef int count = described(x, words.head), more = described(kernel, words.head + count)
        cdef Py_ssize_t index, size
        cdef uint64_t seed = 0
        if count == 0 or more == 0:
            return False
        size = cnp.PyArray_NBYTES(<cnp.ndarray> kernel)
        count += more
        if type(bias) is cnp.ndarray:
            more = described(bias, words.head + count)
            if more == 0:
                return False
            size += cnp.PyArray_NBYTES(<cnp.ndarray> bias)
            count += more
        if out is not None:
            if type(out) is not cnp.ndarray or not cnp.PyArray_ISALIGNED(<cnp.ndarray> out):
                return False
            more = cnp.PyArray_TYPE(<cnp.ndarray> out)
            if not is_builtin(more, <PyObject*> cnp.PyArray_DESCR(<cnp.ndarray> out)):
                return False
            words.head[count] = -1 - more
            count += 1
        if size > MOST_CONTENT or len(said) != len(self.defaults):
            return False
        for index in range(count):
            seed = mixed(seed, words.head[index])
        seed = mixed_bytes(seed, content(kernel), cnp.PyArray_NBYTES(<cnp.ndarray> kernel))
        if type(bias) is cnp.ndarray:
            seed = mixed_bytes(seed, content(bias), cnp.PyArray_NBYTES(<cnp.ndarray> bias))
        elif bias is not None:
            seed = mixed(seed, digest(bias, 0))
        for index in range(len(said)):
            if said[index] is not self.defaults[index]:
                seed = mixed(seed, digest(said[index], 0) + index)
        words.digest, words.count = seed, count
        return True

    cdef bint stands(self, tuple standing) except -1:
        """Whether the options in force are still drawn from the same."""
        cdef PyObject* value = NULL
        cdef Py_ssize_t index
        cdef bint is_same
        PyContextVar_Get(self.context, NULL, &value)
        is_same = value == <PyObject*> standing[0]
        Py_XDECREF(value)
        if not is_same or self.settings.get("_process") is not standing[1]:
            return False
        for index in range(len(self.names)):
            if type(self.environment) is dict:
                now = (<dict> self.environment).get(self.names[index])
            else:
                now = self.environment.get(self.names[index])
            if now is not standing[2 + index]:
                return False
        return True

    cdef add(self, Entry entry):
        cdef tuple chain
        with self.lock:
            if self.used + entry.nbytes > self.limit:
                self.entries.clear()
                self.used = 0
            chain = self.entries.get(entry.digest, ())
            for spare in chain[MOST_ALIKE - 1:]:
                self.used -= (<Entry> spare).nbytes
            self.entries[entry.digest] = (entry, *chain[:MOST_ALIKE - 1])
            self.used += entry.nbytes

    cdef drop(self, Entry entry):
        cdef list left
        with self.lock:
            chain = self.entries.get(entry.digest, ())
            left = [other for other in chain if other is not entry]
            if len(left) < len(chain):
                self.entries[entry.digest] = tuple(left)
                self.used -= entry.nbytes
