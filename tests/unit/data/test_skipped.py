"""Dropped objects are counted by reason, with the first locations."""

from palitune.data.skipped import MAX_LISTED, SkipCounter


def test_a_message_has_the_count_and_the_first_locations() -> None:
    counter = SkipCounter()
    for number in range(1, MAX_LISTED + 3):
        counter.add({"small objects": 1 + (number == 1)}, f"a.json:{number}")
    counter.add({}, "a.json:99")
    locations = "; ".join(f"a.json:{number}" for number in range(2, MAX_LISTED + 1))
    assert counter.messages() == [
        f"left out: {MAX_LISTED + 3} small objects, in {MAX_LISTED + 2} rows: a.json:1 (2); "
        f"{locations}; ..."
    ]
    assert SkipCounter().messages() == []
