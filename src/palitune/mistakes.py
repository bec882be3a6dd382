"""The sentences that answer a wrong command line: what is wrong, what there is instead."""

import difflib
import sys
from collections.abc import Iterable

FAILED, MISTAKE, PREEMPTED, INTERRUPTED = 1, 2, 75, 130
"""Exit codes: of a run that ended early, of a wrong command line, of SIGTERM (sysexits' "try again
later", so that a scheduler can tell what to queue again), of Ctrl-C (128 + SIGINT)."""


class ConfigError(ValueError):
    """What was asked for cannot be; the text is one sentence that names it and the way out."""


def not_among(what: str, word: str, valid: Iterable[str]) -> str:
    """Name something that does not exist, and what does."""
    names = list(valid)
    return f"there is no {what} '{word}'{closest(word, names)}; valid are {', '.join(names)}"


def no_key(key: str, valid: Iterable[object]) -> str:
    """Name a dotted key that does not exist, and those beside it that do."""
    above, _, last = key.rpartition(".")
    names = [str(name) for name in valid]
    place = f" of {above}" if above else ""
    return f"there is no key '{key}'{closest(last, names)}; the keys{place} are {', '.join(names)}"


def must_choose(group: str, options: Iterable[str]) -> str:
    """Name a group out of which an option has to be chosen."""
    names = list(options)
    return f"{group} is missing: choose one of {', '.join(names)} ({group}={names[0]})"


def must_give(key: str, text: str) -> str:
    """Name a key that has to be given; `text` is the sentence under its field."""
    return f"{key} is missing: write {key}=..." + (f" ({text.rstrip('.')})" if text else "")


def closest(word: str, valid: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` where a valid word is near, else nothing."""
    near = difflib.get_close_matches(word, list(valid), n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""


def complain(sentence: str) -> None:
    """Print what is wrong to stderr, as one line."""
    print(f"palitune: {sentence}", file=sys.stderr)
