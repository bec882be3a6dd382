"""The official files of benchmarks that say something about two photographs; see `layout`."""

from unicodedata import normalize

from palitune.data.sources import official_readers as read
from palitune.data.sources.layout import File, Layout, Record

_LANGUAGES = ("id", "sw", "ta", "tr", "zh")


def _pair(record: Record) -> list[Record]:
    """Name both images of NLVR2; those of `train` lie in numbered folders."""
    stem = record["identifier"].rpartition("-")[0]
    folder = str(record.get("directory", ""))
    return [{"folder": folder, "file": f"{stem}-img{number}.png"} for number in (0, 1)]


def _cultural_pair(record: Record) -> list[Record]:
    """Name both images of MaRVL; archives of a Mac hold accents apart from their letters."""
    files = [f"{record['concept']}/{record[side]}" for side in ("left_img", "right_img")]
    return [{"file": file, "taken_apart": normalize("NFKD", file)} for file in files]


def _truth(record: Record) -> str:
    return str(record["label"]).capitalize()


IMAGE_PAIRS: dict[str, Layout] = {
    "nlvr2": Layout(
        home="github.com/lil-lab/nlvr, nlvr2/data; images: lil.nlp.cornell.edu/nlvr (a form)",
        splits={
            split: (File(name=f"{there}.json", told={"split": there}),)
            for split, there in {"train": "train", "validation": "dev", "test": "test1"}.items()
        },
        read=read.lines,
        images=["{split}/{folder}/{file}", "images/{split}/{folder}/{file}"],
        each=_pair,
        id="{identifier}",
        question="sentence",
        answers=_truth,
    ),
    "marvl": Layout(
        home="marvl-challenge.github.io/download",
        splits={
            "test": tuple(
                File(name=f"*/annotations/marvl-{language}.jsonl", told={"language": language})
                for language in _LANGUAGES
            )
        },
        read=read.lines,
        images=["{language}/images/{file}", "{language}/images/{taken_apart}"],
        each=_cultural_pair,
        id="{id}",
        question="caption",
        answers=_truth,
        attributes={"language": "language"},
    ),
}
