"""What is left out is counted by reason, with the first places."""

from palitune.data.left_out import NAMED, LeftOut


def test_a_sentence_counts_and_names_the_first_places() -> None:
    told = LeftOut()
    for number in range(1, NAMED + 3):
        told.add({"small objects": 1 + (number == 1)}, f"a.json:{number}")
    told.add({}, "a.json:99")
    places = "; ".join(f"a.json:{number}" for number in range(2, NAMED + 1))
    assert told.sentences() == [
        f"left out: {NAMED + 3} small objects, in {NAMED + 2} rows: a.json:1 (2); {places}; ..."
    ]
    assert LeftOut().sentences() == []
