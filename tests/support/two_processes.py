"""Run a function in two forked processes, so that slow imports happen once."""

import os
import socket
import sys
import traceback
from collections.abc import Callable


def run_in_two_processes(fn: Callable[[], None]) -> bool:
    """Return whether both succeeded. Torch must not have computed anything before the fork."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    children = []
    for rank in range(2):
        if (child := os.fork()) == 0:
            os.environ |= {
                "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
                "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port),
            }  # fmt: skip
            try:
                fn()
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            sys.exit(0)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return codes == [0, 0]
