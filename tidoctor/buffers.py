"""Memory that the system copies to and from at full speed."""

from __future__ import annotations

import mmap
import os


def aligned(size: int) -> memoryview:
    """Zeros that begin where a page does, for reads and writes of many pieces.

    A big bytearray begins 16 bytes behind a page: to copy between it and the pages of a file takes
    up to two and a half times as long (AMD EPYC), since a processor takes addresses that are equal
    but for multiples of 4096 for the same place, and waits.
    """
    return memoryview(mmap.mmap(-1, max(size, 1)))[:size]


class Twins:
    """Two buffers of one size, compared where they stand."""

    def __init__(self, size: int) -> None:
        import ctypes

        self.views = aligned(size), aligned(size)
        self._places = [
            ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(view)))
            for view in self.views
        ]
        # Two views would be compared byte by byte, a hundredth as fast.
        self._memcmp = ctypes.CDLL(None).memcmp if os.name == "posix" else None
        if self._memcmp is not None:
            self._memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]

    def alike(self, n: int) -> bool:
        """Whether their first `n` bytes, at most all, are equal."""
        if self._memcmp is not None:
            return bool(self._memcmp(*self._places, n) == 0)
        a, b = self.views
        return a[:n].tobytes() == b[:n].tobytes()
