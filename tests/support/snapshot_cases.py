"""Fixed cases of metrics, and toy data, of the behavior snapshot: free of names of Palitune."""

import json
import random
from pathlib import Path
from typing import Any

TABLE = "<table><tr><td>two</td><td>boats</td></tr></table>"
TEXT_CASES: list[tuple[str | None, tuple[str, ...]]] = [
    ("two boats", ("two boats",) * 4),
    ("two boats", ("a boat", "two boats on a lake", "Two Boats", "boats")),
    ("a red boat at sea", ("a red boat at the sea", "a ship at sea")),
    ("", ("a dog", "the dog")),
    (None, ("a dog on the beach", "a dog")),
    ("kitten", ("sitting",)),
    ("Yes", ("yes",)),
    ("no", ("yes",)),
    ("42", ("40",)),
    ("12.5%", ("12%", "0.125")),
    ("The answer is B.", ("The answer is B.",)),
    ("The answer is B", ("The answer is C.",)),
    (TABLE, (TABLE,)),
    (TABLE.replace("two", "three"), (TABLE,)),
    ("<table><tr><td", (TABLE,)),
    ("OCC", ("CCO",)),
    ("C1CC", ("C1CC1",)),
    ("**kern\n4c\n4d\n*-", ("**kern\n4c\n4e\n*-",)),
    ("New  York ", ("new york", "NYC")),
]
BOAT, BUOY = ("boat", (10, 10, 60, 60), None, False), ("buoy", (70, 10, 90, 40), None, False)
CROWD = ("boat", (5, 65, 95, 95), None, True)
MOVED = ("boat", (12, 10, 60, 64), 0.4, False)
SURE = ("boat", (10, 10, 60, 60), 0.9, False)
WRONG = ("buoy", (10, 10, 60, 60), 0.7, False)
FAR = ("boat", (70, 70, 90, 90), 0.3, False)
OBJECT_CASES: list[tuple[list[Any] | tuple[()] | None, list[Any]]] = [
    ([SURE, BUOY], [BOAT, BUOY]),
    ([MOVED], [BOAT, BUOY]),
    ([WRONG], [BOAT]),
    ([SURE, MOVED, FAR], [BUOY, CROWD]),
    ((), [BOAT, BUOY]),
    (None, [BUOY]),
    ([FAR], [BOAT, CROWD]),
    ([MOVED, WRONG], [BUOY, BOAT]),
    ([FAR], []),
]


def ellipse(box: tuple[int, int, int, int]) -> Any:
    """Return an ellipse that fills a box: (100, 100) bool."""
    import numpy as np
    from PIL import Image, ImageDraw

    image = Image.new("1", (100, 100))
    ImageDraw.Draw(image).ellipse((box[0], box[1], box[2] - 1, box[3] - 1), fill=1)
    return np.asarray(image)


def write_toy_data() -> None:
    """Write images of colored rectangles, and JSON Lines with the columns of every task."""
    from PIL import Image, ImageDraw

    files: dict[str, list[dict[str, Any]]] = {
        "objects": [],
        "single": [],
        "pairs": [],
        "tables": [],
    }
    Path("images").mkdir()
    for number in range(8):
        rng = random.Random(number)
        image = Image.new("RGB", (96 + 8 * number, 80), (250, 250, 30 * number))
        objects = []
        for column in range(number % 4):
            x0, y0 = 32 * column + rng.randint(0, 8), rng.randint(0, 30)
            x1, y1 = x0 + rng.randint(10, 22), y0 + rng.randint(12, 40)
            label = rng.choice(["red", "green", "blue"])
            ImageDraw.Draw(image).rectangle((x0, y0, x1 - 1, y1 - 1), fill=label)
            mask = [[x0, y0, x1, y0, x1, y1, x0, y1]]
            objects.append({"label": label, "box": [x0, y0, x1, y1], "mask": mask})
        image.save(f"images/{number}.png")
        count, word = str(len(objects)), ["none", "one", "two", "three"][len(objects)]
        names = " ".join(str(entry["label"]) for entry in objects) or "nothing"
        row = {
            "id": f"row-{number}",
            "image": f"images/{number}.png",
            "question": "how many rectangles are there?",
            "answers": [count, word, word],
            "choices": ["3", "2", "1", "0", "three", "two", "one", "none"],
            "hint": "They do not touch.",
            "captions": [f"rectangles: {names}", f"a picture of {names}"],
            "text": names,
        }
        files["objects"].append(row | {"instances": objects})
        files["pairs"].append(
            row | {"image": [f"images/{number}.png", f"images/{number // 2}.png"]}
        )
        if objects:
            expression = f"the {objects[0]['label']} one"
            files["single"].append(row | {"instances": objects[:1], "expression": expression})
            cells = [entry | {"label": str(n)} for n, entry in enumerate(objects)]
            html = "<table><tr>" + "<td>cell</td>" * len(objects) + "</tr></table>"
            files["tables"].append(row | {"text": html, "instances": cells})
    for name, rows in files.items():
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
