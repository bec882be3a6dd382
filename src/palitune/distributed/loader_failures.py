"""Data loader workers that were killed: the operating system's out-of-memory killer, or a crash."""

import re
from collections.abc import Iterator

_FAILED_WORKER = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([0-9, ]+)\)")
_SIGNAL = re.compile(r"killed by signal: ([A-Za-z ]+)")
_ADVICE = {
    "Killed": "the machine probably has too little memory; set training.num_workers and "
    "evaluation.num_workers lower",
    "Bus error": "/dev/shm is probably full; enlarge it (docker run --shm-size=8g), or set "
    "training.num_workers=0 and evaluation.num_workers=0",
}
_OTHER_ADVICE = (
    "a library crashed on one of the files; set training.num_workers=0 and "
    "evaluation.num_workers=0 to crash in the main process, with a traceback"
)


def describe_killed_worker(error: BaseException) -> str | None:
    """Return a sentence if an exception is torch's report of a killed data loader worker.

    Training may wrap the exception; its causes are searched too.
    """
    text = " ".join(_chained_messages(error))
    if (worker := _FAILED_WORKER.search(text)) is None:
        return None
    signal = _SIGNAL.search(text)
    name = signal[1].strip() if signal else None
    cause = f"was killed ({name})" if name else "ended unexpectedly"
    return f"data loader worker {worker[1]} {cause}: {_ADVICE.get(name or '', _OTHER_ADVICE)}"


def _chained_messages(error: BaseException) -> Iterator[str]:
    """Yield the texts of an error and of its causes: torch names the signal in one of them."""
    current: BaseException | None = error
    while current is not None:
        if isinstance(current, RuntimeError):
            yield str(current)
        current = current.__cause__ or current.__context__
