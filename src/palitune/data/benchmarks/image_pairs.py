"""Benchmarks of statements about two photographs: descriptions of their official files."""

from unicodedata import normalize

from palitune.data.benchmarks import readers as read
from palitune.data.benchmarks.layout import BenchmarkSpec, Record, by_split, by_value


def _nlvr2_images(record: Record) -> list[Record]:
    """Return the files of both images of NLVR2; those of `train` are in numbered folders."""
    stem = record["identifier"].rpartition("-")[0]
    folder = str(record.get("directory", ""))
    return [{"folder": folder, "file": f"{stem}-img{number}.png"} for number in (0, 1)]


def _marvl_images(record: Record) -> list[Record]:
    """Return the files of both images of MaRVL; macOS archives contain decomposed accents."""
    files = [f"{record['concept']}/{record[side]}" for side in ("left_img", "right_img")]
    return [{"file": file, "decomposed": normalize("NFKD", file)} for file in files]


def _label_text(record: Record) -> str:
    return str(record["label"]).capitalize()


IMAGE_PAIR_BENCHMARKS: dict[str, BenchmarkSpec] = {
    "nlvr2": BenchmarkSpec(
        homepage="github.com/lil-lab/nlvr, nlvr2/data; images: lil.nlp.cornell.edu/nlvr (a form)",
        splits=by_split("{}.json", {"train": "train", "validation": "dev", "test": "test1"}),
        read=read.json_lines,
        images=["{split}/{folder}/{file}", "images/{split}/{folder}/{file}"],
        fields_per_image=_nlvr2_images,
        id="{identifier}",
        question="sentence",
        answers=_label_text,
    ),
    "marvl": BenchmarkSpec(
        homepage="marvl-challenge.github.io/download",
        splits={
            "test": by_value(
                "*/annotations/marvl-{}.jsonl", "language", ("id", "sw", "ta", "tr", "zh")
            )
        },
        read=read.json_lines,
        images=["{language}/images/{file}", "{language}/images/{decomposed}"],
        fields_per_image=_marvl_images,
        id="{id}",
        question="caption",
        answers=_label_text,
        attributes={"language": "language"},
    ),
}
