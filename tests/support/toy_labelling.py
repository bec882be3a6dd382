"""The toy data set as labelling programs export it."""

import json
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from support.toy_data import COLORS, SIZE, SPLITS, draw_toy_image, toy_objects

Object = dict[str, Any]


def _points(toy_object: Object) -> list[list[float]]:
    x0, y0, x1, y1 = toy_object["box"]
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def _drawn(folder: Path, split: str) -> list[tuple[str, list[Object]]]:
    """File name and objects of each image of a split."""
    return [
        (Path(draw_toy_image(folder, split, index)).name, toy_objects(split, index))
        for index in range(SPLITS[split])
    ]


def write_label_studio(folder: Path) -> None:
    for split in SPLITS:
        tasks = []
        for name, objects in _drawn(folder, split):
            result = [
                {
                    "id": f"r{number}", "type": "polygonlabels", "from_name": "x",
                    "to_name": "image",
                    "original_width": SIZE[0], "original_height": SIZE[1], "image_rotation": 0,
                    "value": {
                        "points": [
                            [100 * x / SIZE[0], 100 * y / SIZE[1]] for x, y in _points(written)
                        ],
                        "polygonlabels": [written["label"]],
                    },
                }
                for number, written in enumerate(objects)
            ]  # fmt: skip
            annotations = [{"id": 1, "was_cancelled": False, "result": result}]
            data = {"image": f"/data/upload/1/0a1b2c3d-{name}"}
            tasks.append({"id": len(tasks), "data": data, "annotations": annotations})
        (folder / f"{split}.json").write_text(json.dumps(tasks))


def write_labelme(folder: Path) -> None:
    for split in SPLITS:
        (folder / split).mkdir(parents=True)
        for name, objects in _drawn(folder / split, split):
            shapes = [
                {
                    "label": written["label"], "points": _points(written), "group_id": None,
                    "shape_type": "polygon", "flags": {},
                }
                for written in objects
            ]  # fmt: skip
            content = {
                "version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": name,
                "imageData": None, "imageHeight": SIZE[1], "imageWidth": SIZE[0],
            }  # fmt: skip
            image = folder / split / "images" / name
            image.rename(folder / split / name)
            (folder / split / name).with_suffix(".json").write_text(json.dumps(content))
        (folder / split / "images").rmdir()


def write_cvat(folder: Path) -> None:
    labels = "".join(f"<label><name>{name}</name></label>" for name in sorted(COLORS))
    images = []
    for split in SPLITS:
        for name, objects in _drawn(folder, split):
            shapes = "".join(
                f"<polygon label={quoteattr(written['label'])} "
                f'points="{";".join(f"{x},{y}" for x, y in _points(written))}"/>'
                for written in objects
            )
            images.append(
                f'<image id="{len(images)}" name="{name}" subset="{split}" '
                f'width="{SIZE[0]}" height="{SIZE[1]}">{shapes}</image>'
            )
    (folder / "annotations.xml").write_text(
        '<?xml version="1.0"?><annotations><version>1.1</version>'
        f"<meta><task><labels>{labels}</labels></task></meta>{''.join(images)}</annotations>"
    )


def write_csv(folder: Path) -> None:
    for split in SPLITS:
        lines = ["filename,width,height,class,xmin,ymin,xmax,ymax"]
        for name, objects in _drawn(folder, split):
            start = f"images/{name},{SIZE[0]},{SIZE[1]}"
            boxes = [",".join(map(str, [written["label"], *written["box"]])) for written in objects]
            lines += [f"{start},{box}" for box in boxes or [",,,,"]]
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")
