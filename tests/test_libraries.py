"""The table of other array libraries: found by class, loaded once, by whichever thread meets the first array."""

import sys
import threading
from types import ModuleType

import numpy as np

from convengine import libraries

SLOW = """
import time
time.sleep(0.5)
def apply():
    pass
"""


def test_arrays_of_numpy_and_plain_numbers_have_no_adapter():
    assert libraries.adapter(np.ones(3), [1, 2], 3.0, None) is None


def test_the_first_value_of_a_known_library_decides(monkeypatch, tmp_path):
    (tmp_path / "adapter_of_someone.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(libraries.ADAPTERS, "someone", "adapter_of_someone")
    derived = type("Derived", (type("Array", (), {"__module__": "someone.arrays"}),), {})
    found = libraries.adapter(np.ones(3), derived(), [1.0])
    assert isinstance(found, ModuleType)
    assert found.__name__ == "adapter_of_someone"


def test_no_thread_gets_a_module_that_another_is_still_loading(monkeypatch, tmp_path):
    (tmp_path / "slow_adapter.py").write_text(SLOW)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(libraries.ADAPTERS, "slow", "slow_adapter")
    array = type("Array", (), {"__module__": "slow"})()
    whole = []

    def call():
        whole.append(hasattr(libraries.adapter(array), "apply"))

    first = threading.Thread(target=call)
    first.start()
    while "slow_adapter" not in sys.modules:
        threading.Event().wait(0.01)
    call()
    first.join()
    assert whole == [True, True]
