# cython: freethreading_compatible=True, language_level=3
"""What is computed of a problem once, and kept beside its fields: a new problem is asked for some forty such values."""

cdef extern from "Python.h":
    object PyObject_GenericGetDict(object owner, void* context)


cdef class Key:
    """A tuple as a key that knows its hash: hashed once, however often it is looked up, kept and looked up again."""

    cdef readonly tuple parts
    cdef Py_hash_t hashed

    def __init__(self, *parts):
        self.parts, self.hashed = parts, hash(parts)

    def __hash__(self):
        return self.hashed

    def __eq__(self, other):
        return isinstance(other, Key) and self.hashed == (<Key>other).hashed and self.parts == (<Key>other).parts


cdef class Lazy:
    """A property that is computed once, and then kept beside the fields."""

    cdef readonly object function
    cdef readonly str name

    def __init__(self, function):
        self.function, self.name = function, function.__name__

    @property
    def __doc__(self):
        return self.function.__doc__

    def __get__(self, owner, kind):
        if owner is None:
            return self
        value = self.function(owner)
        (<dict>PyObject_GenericGetDict(owner, NULL))[self.name] = value
        return value


cdef class ByForm(Lazy):
    """A property of all problems of one form: it depends neither on the sizes of x nor on those of the result."""

    @property
    def __doc__(self):  # else the class's own, which no subclass inherits
        return self.function.__doc__

    def __get__(self, owner, kind):
        return self if owner is None else _shared(owner, self.function, self.name, "form")


cdef class ByKind(Lazy):
    """A property of all problems of one kind: it does not depend on the kernel's shape or the pads, either."""

    @property
    def __doc__(self):
        return self.function.__doc__

    def __get__(self, owner, kind):
        return self if owner is None else _shared(owner, self.function, self.name, "kind")


cdef class Kept:
    """A function of a problem whose results are kept beside its fields."""

    cdef readonly object function
    cdef readonly str name
    cdef dict __dict__  # for functools.update_wrapper

    def __init__(self, function, str name):
        self.function, self.name = function, name

    def __call__(self, problem):
        cdef dict values = PyObject_GenericGetDict(problem, NULL)
        found = values.get(self.name)
        if found is None:
            found = values[self.name] = self.function(problem)
        return found


cdef class KeptByForm(Kept):
    """A function of a problem whose results are kept for all problems of its form."""

    def __call__(self, problem):
        found = (<dict>PyObject_GenericGetDict(problem, NULL)).get(self.name)
        return _shared(problem, self.function, self.name, "form") if found is None else found


cdef class KeptByKind(Kept):
    """A function of a problem whose results are kept for all problems of its kind."""

    def __call__(self, problem):
        found = (<dict>PyObject_GenericGetDict(problem, NULL)).get(self.name)
        return _shared(problem, self.function, self.name, "kind") if found is None else found


cdef object _shared(owner, function, str name, str where):
    """Look up what was computed for others of a form or a kind, or compute it; keep it beside the fields, too."""
    cdef dict values = PyObject_GenericGetDict(owner, NULL)
    held = values.get(where)
    value = None if held is None else (<dict>held).get(name)
    if value is None:
        value = function(owner)
        if held is not None:
            (<dict>held)[name] = value
    values[name] = value
    return value
