"""Interface of the runners that execute the jobs of a sweep."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

Outcome = tuple[int, str]
"""Exit code of a job, and the last line that it wrote to stderr."""


class Runner(Protocol):
    """Executes jobs; `run` is called from one thread per concurrent job."""

    def run(self, command: Sequence[str], resume_args: Sequence[str], log_file: Path) -> Outcome:
        """Run a command with the Python interpreter and wait for its end.

        Args:
            command: Arguments of the interpreter.
            resume_args: Arguments that are added if an interrupted job is started again.
            log_file: File for the output of the job, if it is not shown.
        """

    def terminate(self) -> None:
        """Terminate all running jobs and start no others."""
