# What compiled code takes from the thread pool: `from convengine.native cimport pool`, then pool.run and pool.scratch.

# One item of a region. It may not raise, and holds no GIL.
ctypedef void (*task_t)(void* context, Py_ssize_t item, int worker) noexcept nogil

# Call task(context, item, worker) once for every item from 0 to items - 1, on up to `workers` threads, the calling one
# among them as worker 0, and return when all are done. No two calls at the same time share a worker number, and all lie
# below max(workers, 1). Which worker takes which item is open: a result must not depend on it.
# Call it without the GIL. Give an item enough work to hide one atomic increment and one look at the clock, and at most
# some milliseconds: Ctrl-C waits for the items that run. A region inside another, or beside another thread's, runs on
# its caller alone. -1 with the exception set (KeyboardInterrupt) means that items may be missing.
cdef int run(task_t task, void* context, Py_ssize_t items, int workers) except -1 nogil

# This thread's own buffer of at least that many bytes, 64-byte aligned, contents undefined; NULL where memory is out.
# Valid until this thread's next call: a task takes all it needs at once, and runs no region inside while it uses it.
cdef void* scratch(size_t bytes) noexcept nogil
