# cython: freethreading_compatible=True, language_level=3
"""The one thread pool of the process: fork-join regions over items that threads fetch one by one.

Why not OpenMP or an executor: docs/decisions/0001-thread-pool.md. How it works:

- A region is open while its *door* has free places. The door is one word: free places above, helpers inside below. A
  helper enters by a compare-and-swap that takes a place, so that none can enter a region that is over, however late it
  wakes. The number of the place it took is its worker number.
- Items come from an atomic counter: a thread with a busy neighbour takes fewer. Who finds none left shuts the door. The
  caller then waits for the helpers inside, never for one that is still waking.
- A helper out of work watches the door for SPIN nanoseconds, then sleeps on a condition variable. A caller wakes two,
  and every helper that enters wakes two more while places are free: a large pool wakes as a tree, not in a row.
- The helpers hold no Python state, and no signal reaches them. Only the main thread, where Python runs signal handlers,
  asks for signals, between items, and takes the GIL for that.
- A fork leaves the child with the forking thread alone. A handler then empties the pool, and the child hires its own.

All atomics are sequentially consistent. The sleeping protocol needs it (a caller writes the door, then reads the
sleepers; a helper writes the sleepers, then reads the door), and one order for all is easier to reason about.
"""

import threading

from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset
from posix.stdlib cimport posix_memalign


cdef extern from "pythread.h" nogil:
    unsigned long this_thread "PyThread_get_thread_ident"()

cdef extern from "Python.h":
    int PyErr_CheckSignals()
    void PyErr_SetString(object kind, const char* text)

cdef extern from "pool.h" nogil:
    int64_t get "ce_get"(int64_t* word)
    void put "ce_put"(int64_t* word, int64_t value)
    int64_t add "ce_add"(int64_t* word, int64_t value)
    unsigned char add_byte "ce_add"(unsigned char* word, int value)
    int64_t mask "ce_and"(int64_t* word, int64_t value)
    bint swap "ce_swap"(int64_t* word, int64_t* seen, int64_t value)
    void pause "ce_pause"()
    int64_t now "ce_now"()
    void sleep_for "ce_sleep"(int64_t ns)
    int create "ce_create"(void* (*body)(void*) noexcept nogil)
    void reset_locks "ce_reset_locks"()

    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    ctypedef unsigned long pthread_key_t
    int pthread_mutex_lock(pthread_mutex_t*)
    int pthread_mutex_unlock(pthread_mutex_t*)
    int pthread_cond_wait(pthread_cond_t*, pthread_mutex_t*)
    int pthread_cond_signal(pthread_cond_t*)
    int pthread_atfork(void (*)() noexcept nogil, void (*)() noexcept nogil, void (*)() noexcept nogil)
    int pthread_key_create(pthread_key_t*, void (*)(void*) noexcept nogil)
    int pthread_setspecific(pthread_key_t, const void*)
    int sched_yield()

    ctypedef struct pool_t:
        int64_t door, next, taken, alive, forks, items, sleepers
        task_t task
        void* context
        pthread_mutex_t mutex
        pthread_cond_t opened
    pool_t pool "ce_pool"
    int64_t PLACE "CE_PLACE"
    int64_t INSIDE "CE_INSIDE"
    int engaged "ce_engaged"
    void* buffer "ce_scratch"
    size_t buffer_bytes "ce_scratch_bytes"
    pthread_key_t buffer_key "ce_scratch_key"

cdef enum:
    SPIN = 50_000        # ns that an idle thread watches before it gives its core away
    POLL = 20_000_000    # ns between two looks for a signal: each may wait for the GIL
    PAUSES = 64          # pauses between two looks at the clock
    ALIGNMENT = 64       # bytes: a cache line, and the widest vector

cdef unsigned long main_thread = threading.main_thread().ident


# ---- the caller's side of a region

cdef int run(task_t task, void* context, Py_ssize_t items, int workers) except -1 nogil:
    global engaged
    cdef bint outermost = not engaged
    cdef bint polls = outermost and this_thread() == main_thread
    cdef int64_t nobody = 0
    cdef int outcome
    engaged = 1
    if outermost and items > 1 and workers > 1 and swap(&pool.taken, &nobody, 1):
        outcome = run_together(task, context, items, min(workers, items) - 1, polls)
    else:
        outcome = run_alone(task, context, items, polls)
    engaged = not outermost
    return outcome


cdef int run_alone(task_t task, void* context, Py_ssize_t items, bint polls) noexcept nogil:
    cdef int64_t polled = now() if polls and items > 1 else 0
    cdef Py_ssize_t item
    for item in range(items):
        task(context, item, 0)
        if polls and item + 1 < items and interrupted(&polled):
            return -1
    return 0


cdef int run_together(task_t task, void* context, Py_ssize_t items, int64_t helpers, bint polls) noexcept nogil:
    cdef int64_t polled = now() if polls else 0
    cdef int64_t forks = pool.forks
    cdef int64_t item
    cdef int outcome = 0
    helpers = hire(helpers)
    pool.task = task
    pool.context = context
    pool.items = items
    put(&pool.next, 0)
    put(&pool.door, helpers * PLACE)
    wake()
    while outcome == 0:
        item = add(&pool.next, 1)
        if item >= items:
            break
        task(context, item, 0)
        if polls and interrupted(&polled):
            outcome = -1
            put(&pool.next, items)
    if pool.forks != forks:
        return outcome or refuse_half_a_region()
    shut_door()
    await_helpers()
    put(&pool.taken, 0)
    return outcome


cdef bint interrupted(int64_t* polled) noexcept nogil:
    """Whether a signal handler of Python's raised; the exception is then set in this thread."""
    if now() - polled[0] < POLL:
        return False
    with gil:
        if PyErr_CheckSignals() < 0:
            return True
    polled[0] = now()
    return False


cdef int refuse_half_a_region() noexcept with gil:
    """Report, in a child that was forked inside the region, that the helpers stayed in the parent with their items."""
    PyErr_SetString(RuntimeError, "a result needs all of its items; this process was forked, by a signal handler, "
                                  "while helper threads of its parent were computing some of them; compute again")
    return -1


cdef int64_t hire(int64_t wanted) noexcept nogil:
    """Have that many helpers, or as many as the system gives; how many of them the region may use."""
    while pool.alive < wanted and create(serve) == 0:
        add(&pool.alive, 1)
    return min(wanted, pool.alive)


cdef void wake() noexcept nogil:
    """Wake up to two sleepers, where those awake are too few for the free places."""
    cdef int64_t sleepers = get(&pool.sleepers)
    if sleepers == 0:
        return
    cdef int64_t door = get(&pool.door)
    cdef int64_t missing = (door >> 32) + (door & INSIDE) - (get(&pool.alive) - sleepers)
    if door < PLACE or missing <= 0:
        return
    # Who has counted itself a sleeper may still be on its way: it holds the mutex until it hears signals.
    pthread_mutex_lock(&pool.mutex)
    pthread_mutex_unlock(&pool.mutex)
    pthread_cond_signal(&pool.opened)
    if missing > 1:
        pthread_cond_signal(&pool.opened)


cdef void shut_door() noexcept nogil:
    mask(&pool.door, INSIDE)


cdef void await_helpers() noexcept nogil:
    cdef int64_t since = now()
    cdef long turn = 0
    while get(&pool.door) != 0:
        turn += 1
        if turn < PAUSES or now() - since < SPIN:
            pause()
        else:
            sched_yield()  # a helper may be waiting for this very core


# ---- the helpers' side

cdef void* serve(void* unused) noexcept nogil:
    global engaged
    cdef int64_t worker, item
    engaged = 1
    while True:
        await_door()
        worker = enter()
        if worker == 0:
            continue
        wake()
        while True:
            item = add(&pool.next, 1)
            if item >= pool.items:
                break
            pool.task(pool.context, item, <int>worker)
        shut_door()
        add(&pool.door, -1)


cdef int64_t enter() noexcept nogil:
    """Take a place in the region that is open; its number, or 0."""
    cdef int64_t door = get(&pool.door)
    while door >= PLACE:
        if swap(&pool.door, &door, door - PLACE + 1):
            return door >> 32
    return 0


cdef void await_door() noexcept nogil:
    cdef int64_t since = now()
    cdef long turn = 0
    while get(&pool.door) < PLACE:
        pause()
        turn += 1
        if turn % PAUSES == 0 and now() - since > SPIN:
            pthread_mutex_lock(&pool.mutex)
            add(&pool.sleepers, 1)
            while get(&pool.door) < PLACE:
                pthread_cond_wait(&pool.opened, &pool.mutex)
            add(&pool.sleepers, -1)
            pthread_mutex_unlock(&pool.mutex)


# ---- fork

cdef void reset() noexcept nogil:
    """Empty the pool, in a child that was just forked: the forking thread is its only one, and its main one."""
    global main_thread
    main_thread = this_thread()
    reset_locks()
    pool.door = pool.next = pool.taken = pool.alive = pool.sleepers = 0
    pool.forks += 1


if pthread_atfork(NULL, NULL, reset) != 0 or pthread_key_create(&buffer_key, free) != 0:
    raise MemoryError("the thread pool needs a fork handler and a thread-local key; the system has none left")


# ---- scratch memory

cdef void* scratch(size_t bytes) noexcept nogil:
    global buffer, buffer_bytes
    if bytes == 0:
        bytes = 1  # NULL is left to mean that there is no memory
    if bytes <= buffer_bytes:
        return buffer
    free(buffer)
    buffer_bytes = 0
    if posix_memalign(&buffer, ALIGNMENT, bytes) != 0:
        buffer = NULL
    if pthread_setspecific(buffer_key, buffer) != 0:
        free(buffer)
        buffer = NULL
    if buffer != NULL:
        buffer_bytes = bytes
    return buffer


# ---- what Python sees: for the tests, and for who wants to know

def size() -> int:
    """How many helper threads are alive; each thread that calls the engine works too, and is not counted."""
    return get(&pool.alive)


ctypedef struct meeting_t:
    int64_t arrived, expected


cdef void meet(void* context, Py_ssize_t item, int worker) noexcept nogil:
    """Nothing, or wait until every item has begun; for 10 ms at most, since the pool may be another thread's."""
    cdef meeting_t* m = <meeting_t*>context
    cdef int64_t since
    if m.expected == 0:
        return
    since = now()
    add(&m.arrived, 1)
    while get(&m.arrived) < m.expected and now() - since < 10_000_000:
        pause()


def overhead(int workers=2, *, double pause_seconds=0.0, bint together=False, int regions=200) -> list[float]:
    """Measure what a parallel region costs beside its work.

    Parameters
    ----------
    workers : int
        Threads, and empty items, of a region.
    pause_seconds : float
        Sleep so long before each region. Idle helpers watch for work for 50 us, then sleep: no pause finds them
        watching, 1e-3 finds them asleep.
    together : bool
        Each item waits until all have begun: how long it takes until the last helper works, rather than how long the
        caller is kept.
    regions : int
        How often to measure.

    Returns
    -------
    list of float
        Seconds that each region took.
    """
    cdef meeting_t m
    cdef int64_t since
    cdef list seconds = []
    for _ in range(regions):
        m.arrived, m.expected = 0, workers if together else 0
        with nogil:
            if pause_seconds > 0:
                sleep_for(<int64_t>(pause_seconds * 1e9))
            since = now()
            run(meet, &m, workers, workers)
            since = now() - since
        seconds.append(since * 1e-9)
    return seconds


ctypedef struct exercise_t:
    unsigned char* counts
    const volatile unsigned char* held
    int* workers
    int64_t* busy
    int64_t clashes, inner_runs, ns
    Py_ssize_t inner


cdef void exercise(void* context, Py_ssize_t item, int worker) noexcept nogil:
    cdef exercise_t* e = <exercise_t*>context
    cdef int64_t idle = 0
    cdef Py_ssize_t byte
    cdef unsigned char* room
    cdef bint alone = swap(&e.busy[worker], &idle, 1)
    add_byte(&e.counts[item], 1)
    e.workers[item] = worker
    if e.inner > 0:
        run(exercise_inner, context, e.inner, 8)
    room = <unsigned char*>scratch(256)
    if room == NULL:
        alone = False
    else:
        memset(room, worker + 1, 256)
        if e.ns > 0:
            sleep_for(e.ns)
        while e.held != NULL and e.held[0] != 0:
            sleep_for(e.ns + 1000)
        for byte in range(256):
            alone = alone and room[byte] == <unsigned char>(worker + 1)
    if not alone:
        add(&e.clashes, 1)
    put(&e.busy[worker], 0)


cdef void exercise_inner(void* context, Py_ssize_t item, int worker) noexcept nogil:
    cdef exercise_t* e = <exercise_t*>context
    add(&e.inner_runs, 1)
    if worker != 0:
        add(&e.clashes, 1)
    if e.ns > 0:
        sleep_for(e.ns)


def _exercise(Py_ssize_t items, int workers, double milliseconds=0.0, *, Py_ssize_t inner=0, bytearray counts=None,
              bytearray held=None):
    """Run a region whose items record themselves, then sleep.

    Parameters
    ----------
    items, workers : int
        As `run` takes them.
    milliseconds : float
        How long each item sleeps.
    inner : int
        Each item runs a region of that many items itself, which sleep as long.
    counts : bytearray of items zeros, optional
        Item i adds 1 to counts[i] when it starts: to be watched from outside.
    held : bytearray, optional
        Items go on sleeping while held[0] is not 0: to be ended from outside.

    Returns
    -------
    counts : bytearray
        How often each item ran.
    workers : list of int
        The worker number that each item saw.
    clashes : int
        Items that met another of the same worker number or a foreign hand in their scratch buffer, or that ran in a
        region within but not on its caller.
    inner_runs : int
        Items that ran in the regions within.
    """
    counts = bytearray(items) if counts is None else counts
    if len(counts) != items:
        raise ValueError(f"counts needs one byte for each of {items} items; got {len(counts)}")
    cdef exercise_t e
    memset(&e, 0, sizeof(e))
    e.counts = counts
    if held is not None:
        e.held = held
    e.inner = inner
    e.ns = <int64_t>(milliseconds * 1e6)
    e.workers = <int*>calloc(max(items, 1), sizeof(int))
    e.busy = <int64_t*>calloc(max(workers, 1), sizeof(int64_t))
    try:
        if e.workers == NULL or e.busy == NULL:
            raise MemoryError(f"no memory for the record of {items} items")
        with nogil:
            run(exercise, &e, items, workers)
        return counts, [e.workers[item] for item in range(items)], e.clashes, e.inner_runs
    finally:
        free(e.workers)
        free(e.busy)


def _scratch(size_t bytes) -> int:
    """The address of this thread's scratch buffer of at least that many bytes; 0 when there is no memory."""
    return <size_t>scratch(bytes)
