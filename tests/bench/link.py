"""A slow link between two network namespaces: real TCP, with a real round trip. Needs root, Linux.

Packets cross between two TUN devices through this process, half a round trip later; as whole
segments of up to 64 kB, as network cards take them, so that this costs little of the processor.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

NEAR, FAR = "tidoctor-near", "tidoctor-far"
NEAR_ADDRESS, FAR_ADDRESSES = "10.77.0.1", ("10.77.0.2", "10.77.0.3")
_CLONE_NEWNET = 0x40000000  # sched.h
_TUNSETIFF, _TUNSETOFFLOAD = 0x400454CA, 0x400454D0  # linux/if_tun.h
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 1, 0x1000, 0x4000
_CSUM, _TSO4 = 1, 2  # TUN_F_CSUM, TUN_F_TSO4
_LARGEST = 65536 + 64  # bytes of a segment with its headers


def inside(namespace: str, *command: str) -> list[str]:
    """The command line that runs a command in a namespace."""
    return ["ip", "netns", "exec", namespace, *command]


@contextmanager
def link(round_trip: float) -> Iterator[None]:
    """The two namespaces, with a link of that many seconds between them."""
    for name in (NEAR, FAR):
        subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        ends = [_tun(NEAR, [NEAR_ADDRESS]), _tun(FAR, list(FAR_ADDRESSES))]
        for a, b in (ends, ends[::-1]):
            queue: SimpleQueue[tuple[float, bytes]] = SimpleQueue()
            threading.Thread(target=_take, args=(a, queue, round_trip / 2), daemon=True).start()
            threading.Thread(target=_give, args=(b, queue), daemon=True).start()
        yield
    finally:
        for name in (NEAR, FAR):
            subprocess.run(["ip", "netns", "del", name], check=False)


def _tun(namespace: str, addresses: list[str]) -> int:
    """A TUN device in a namespace, open here."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/self/ns/net").open() as here, Path(f"/var/run/netns/{namespace}").open() as there:
        if libc.setns(there.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        device = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", b"tun0", _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR))
        fcntl.ioctl(device, _TUNSETOFFLOAD, _CSUM | _TSO4)
        if libc.setns(here.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    steps = [("addr", "add", f"{a}/24", "dev", "tun0") for a in addresses]
    for step in (*steps, ("link", "set", "tun0", "up"), ("link", "set", "lo", "up")):
        subprocess.run(inside(namespace, "ip", *step), check=True)
    return device


def _take(device: int, queue: SimpleQueue[tuple[float, bytes]], delay: float) -> None:
    while packet := os.read(device, _LARGEST):
        queue.put((time.monotonic() + delay, packet))


def _give(device: int, queue: SimpleQueue[tuple[float, bytes]]) -> None:
    while True:
        due, packet = queue.get()
        if (rest := due - time.monotonic()) > 0:
            time.sleep(rest)
        os.write(device, packet)
