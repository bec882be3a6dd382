"""What is left out is counted by reason, with the first places."""

from palitune.data.skipped import MAX_LISTED, SkipCounter


def test_a_sentence_counts_and_names_the_first_places() -> None:
    told = SkipCounter()
    for number in range(1, MAX_LISTED + 3):
        told.add({"small objects": 1 + (number == 1)}, f"a.json:{number}")
    told.add({}, "a.json:99")
    places = "; ".join(f"a.json:{number}" for number in range(2, MAX_LISTED + 1))
    assert told.messages() == [
        f"left out: {MAX_LISTED + 3} small objects, in {MAX_LISTED + 2} rows: a.json:1 (2); {places}; ..."
    ]
    assert SkipCounter().messages() == []
