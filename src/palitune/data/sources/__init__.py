"""The data sources by name; a name here is also a file in `conf/data/`."""

from palitune.data.mixture import Mixture
from palitune.data.sources.base import Data, Pairing, Source
from palitune.data.sources.coco import Coco
from palitune.data.sources.handwriting import Handwriting
from palitune.data.sources.jsonl import Jsonl

SOURCES: dict[str, type[Data]] = {
    source.name: source for source in (Jsonl, Coco, Handwriting, Mixture)
}

__all__ = ["SOURCES", "Data", "Pairing", "Source"]
