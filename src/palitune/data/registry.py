"""Data sources by name; each name is also a file in `conf/data/`."""

from palitune.data.benchmarks.source import Benchmark
from palitune.data.sources.base import Data
from palitune.data.sources.coco import Coco
from palitune.data.sources.columns.csv_file import Csv
from palitune.data.sources.embedded import Handwriting, Print
from palitune.data.sources.hub import Hub
from palitune.data.sources.jsonl import Jsonl
from palitune.data.sources.labelling.cvat import Cvat
from palitune.data.sources.labelling.label_studio import LabelStudio
from palitune.data.sources.labelling.labelme import LabelMe
from palitune.data.sources.masks.instance import InstanceMasks
from palitune.data.sources.masks.semantic import SemanticMasks
from palitune.data.sources.mixture import Mixture
from palitune.data.sources.parquet import Parquet
from palitune.data.sources.refcoco import RefCoco
from palitune.data.sources.voc import Voc
from palitune.data.sources.webdataset import WebDataset
from palitune.data.sources.yolo import Yolo

SOURCES: dict[str, type[Data]] = {
    source.name: source
    for source in (
        Jsonl,
        Csv,
        Parquet,
        Hub,
        WebDataset,
        Coco,
        Yolo,
        Voc,
        LabelStudio,
        LabelMe,
        Cvat,
        SemanticMasks,
        InstanceMasks,
        RefCoco,
        Benchmark,
        Handwriting,
        Print,
        Mixture,
    )
}
