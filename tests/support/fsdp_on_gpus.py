"""Train with sharded layers in two processes that accelerate believes to use GPUs.

fsdp_on_gpus.py RUN.pickle
"""

import pickle
import sys
from functools import partial
from pathlib import Path

from accelerate import Accelerator

from support.train_all_suffixes import run_rank
from support.two_processes import run_in_two_processes

if __name__ == "__main__":
    # Of CPUs it is False; accelerate then wraps a network without looking for sharded parameters.
    Accelerator.multi_device = property(lambda self: True)
    if not run_in_two_processes(partial(run_rank, **pickle.loads(Path(sys.argv[1]).read_bytes()))):
        sys.exit("a process failed")
