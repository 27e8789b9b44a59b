# SPDX-License-Identifier: Apache-2.0
"""Memory that runs out when told to: every allocation that numpy makes, counted, and refused from the Nth on.

numpy asks a handler of its own for the data of each array (NEP 49). Ours passes on what it is asked for until it is to
refuse, which comes out as MemoryError. Single numbers are let through: temporaries of 8 bytes, for which CPython and
numpy keep freed blocks at hand. So are Python's own small objects.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

SMALL_BYTES: Final = 8
NAME: Final = b"mem_handler"
# Places in numpy's table of C functions (numpy/_core/code_generators/numpy_api.py).
SET_HANDLER: Final = 304
GET_HANDLER: Final = 305

MALLOC: Final = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
CALLOC: Final = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)


class Allocator(ctypes.Structure):
    """PyDataMemAllocator; ``realloc`` and ``free`` stay numpy's own, which are still there when Python has gone."""

    _fields_ = (
        ("ctx", ctypes.c_void_p),
        ("malloc", MALLOC),
        ("calloc", CALLOC),
        ("realloc", ctypes.c_void_p),
        ("free", ctypes.c_void_p),
    )


class Handler(ctypes.Structure):
    """PyDataMem_Handler."""

    _fields_ = (("name", ctypes.c_char * 127), ("version", ctypes.c_uint8), ("allocator", Allocator))


class Scarcity:
    """What is left of the memory for arrays.

    Attributes:
        n_asked: Allocations since ``running_out`` began.
        n_refused: Those of them that were refused.
    """

    def __init__(self) -> None:
        self.n_asked = self.n_refused = 0
        self._first_refused: int | None = None
        self._for_good = False
        api = ctypes.pythonapi
        api.PyCapsule_GetPointer.restype = ctypes.c_void_p
        api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
        api.PyCapsule_New.restype = ctypes.py_object
        api.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        capsule = np._core._multiarray_umath._ARRAY_API  # type: ignore[attr-defined]
        functions = ctypes.cast(api.PyCapsule_GetPointer(capsule, None), ctypes.POINTER(ctypes.c_void_p))
        self._set = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(functions[SET_HANDLER] or 0)
        self._usual = ctypes.PYFUNCTYPE(ctypes.py_object)(functions[GET_HANDLER] or 0)()
        usual = Handler.from_address(api.PyCapsule_GetPointer(self._usual, NAME)).allocator

        def malloc(ctx: int, size: int) -> Any:
            return None if self._refuses(size) else usual.malloc(ctx, size)

        def calloc(ctx: int, n: int, size: int) -> Any:
            return None if self._refuses(n * size) else usual.calloc(ctx, n, size)

        ours = Allocator(usual.ctx, MALLOC(malloc), CALLOC(calloc), usual.realloc, usual.free)
        self._handler = Handler(b"scarce", 1, ours)
        self._scarce = api.PyCapsule_New(ctypes.addressof(self._handler), NAME, None)

    def _refuses(self, size: int) -> bool:
        if size <= SMALL_BYTES:
            return False
        self.n_asked += 1
        if self._first_refused is None or self.n_asked < self._first_refused:
            return False
        if self.n_asked > self._first_refused and not self._for_good:
            return False
        self.n_refused += 1
        return True

    @contextlib.contextmanager
    def running_out(self, nth: int | None, *, for_good: bool = False) -> Iterator[None]:
        """Refuse the nth allocation from now on (from 1; None: none), or that and all after it."""
        self.n_asked = self.n_refused = 0
        self._first_refused, self._for_good = nth, for_good
        self._set(self._scarce)
        try:
            yield
        finally:
            self._set(self._usual)


SCARCITY: Final = Scarcity()
"""One for the process, and for as long as it lives: arrays remember by whom their memory was given."""
