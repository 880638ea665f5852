"""The process's memory: threads share an arena, so that what one load or run took is there for the next."""

import os
import subprocess
import sys

import pytest

# Each thread asks glibc for memory while the others live; an arena of a thread begins at a multiple of 64 MiB.
SCRIPT = """
import ctypes, sys, threading
from model_service.runtime.memory import share_arenas

share_arenas()
malloc = ctypes.CDLL(None).malloc
malloc.restype, malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
together, arenas = threading.Barrier(8), []

def take():
    together.wait()
    arenas.append(malloc(1000) >> 26)
    together.wait()

threads = [threading.Thread(target=take) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(len(set(arenas)))
"""


@pytest.mark.skipif("glibc" not in os.confstr("CS_GNU_LIBC_VERSION"), reason="this machine's C library is not glibc")
@pytest.mark.parametrize(("own", "at_most"), [(None, 2), ("3", 3)])
def test_threads_share_an_arena_unless_the_user_wants_more(own: str | None, at_most: int) -> None:
    """Eight threads at once; a MALLOC_ARENA_MAX of the user's own counts."""
    environment = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    environment |= {"MALLOC_ARENA_MAX": own} if own else {}

    ended = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)

    assert 1 <= int(ended.stdout) <= at_most
    assert own is None or int(ended.stdout) > 2
