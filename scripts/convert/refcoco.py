"""Convert the official references of RefCOCO, RefCOCO+ or RefCOCOg from pickle to JSON.

    python scripts/convert/refcoco.py "refcoco/refs(unc).p" refcoco/refs.json

A pickle is a program. Only lists, dictionaries, texts and numbers are unpickled; anything else is
an error before it is executed.
"""

from __future__ import annotations

import argparse
import io
import json
import pickle
import sys
from pathlib import Path
from typing import Any, NoReturn

KEPT_KEYS = ("ref_id", "ann_id", "image_id", "category_id", "split")
"""Fields of a reference to keep, in addition to its sentences."""


class RestrictedUnpickler(pickle.Unpickler):
    """Unpickler of containers, texts and numbers only."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it contains {module}.{name}, which is not allowed")

    def persistent_load(self, key: Any) -> NoReturn:
        raise pickle.UnpicklingError("it contains an object outside the file")


def load_references(content: bytes) -> list[dict[str, Any]]:
    """Return the references in a pickle, as Python 2 or 3 wrote it.

    Raises pickle.UnpicklingError for anything except plain data.
    """
    refs = RestrictedUnpickler(io.BytesIO(content), encoding="utf-8").load()
    if not isinstance(refs, list) or not all(isinstance(ref, dict) for ref in refs):
        raise pickle.UnpicklingError("it is not a list of references")
    return [
        {key: ref[key] for key in KEPT_KEYS if key in ref}
        | {
            "sentences": [
                {"sent_id": sentence.get("sent_id"), "sent": sentence["sent"]}
                for sentence in ref["sentences"]
            ]
        }
        for ref in refs
    ]


def main(argv: list[str]) -> str | None:
    """Convert one file. Return an error message, or None."""
    parser = argparse.ArgumentParser(description="RefCOCO references from pickle to JSON")
    parser.add_argument("pickle", type=Path, help='e.g. "refcoco/refs(unc).p"')
    parser.add_argument("json", type=Path, help="e.g. refcoco/refs.json")
    arguments = parser.parse_args(argv)
    try:
        refs = load_references(arguments.pickle.read_bytes())
    except (OSError, pickle.UnpicklingError) as error:
        return f"{arguments.pickle}: {error}"
    except Exception as error:  # a damaged pickle raises one of many types
        return f"{arguments.pickle}: not a pickle of references ({error!r})"
    arguments.json.write_text(json.dumps(refs), encoding="utf-8")
    print(f"{arguments.json}: {len(refs)} references")
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
