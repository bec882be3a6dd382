"""The official files of benchmarks that say something about two photographs; see `layout`."""

from unicodedata import normalize

from palitune.data.benchmarks import readers as read
from palitune.data.benchmarks.layout import BenchmarkSpec, Record, SplitFile

_LANGUAGES = ("id", "sw", "ta", "tr", "zh")


def _nlvr2_images(record: Record) -> list[Record]:
    """Name both images of NLVR2; those of `train` lie in numbered folders."""
    stem = record["identifier"].rpartition("-")[0]
    folder = str(record.get("directory", ""))
    return [{"folder": folder, "file": f"{stem}-img{number}.png"} for number in (0, 1)]


def _marvl_images(record: Record) -> list[Record]:
    """Name both images of MaRVL; archives of a Mac hold accents apart from their letters."""
    files = [f"{record['concept']}/{record[side]}" for side in ("left_img", "right_img")]
    return [{"file": file, "taken_apart": normalize("NFKD", file)} for file in files]


def _label_text(record: Record) -> str:
    return str(record["label"]).capitalize()


IMAGE_PAIR_BENCHMARKS: dict[str, BenchmarkSpec] = {
    "nlvr2": BenchmarkSpec(
        homepage="github.com/lil-lab/nlvr, nlvr2/data; images: lil.nlp.cornell.edu/nlvr (a form)",
        splits={
            split: (SplitFile(name=f"{there}.json", metadata={"split": there}),)
            for split, there in {"train": "train", "validation": "dev", "test": "test1"}.items()
        },
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
            "test": tuple(
                SplitFile(
                    name=f"*/annotations/marvl-{language}.jsonl", metadata={"language": language}
                )
                for language in _LANGUAGES
            )
        },
        read=read.json_lines,
        images=["{language}/images/{file}", "{language}/images/{taken_apart}"],
        fields_per_image=_marvl_images,
        id="{id}",
        question="caption",
        answers=_label_text,
        attributes={"language": "language"},
    ),
}
