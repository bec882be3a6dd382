"""Bad rows are grouped by their message without place and values."""

from palitune.data.inspection.bad_rows import BadRowGroups, cause_of


def test_messages_that_differ_in_place_and_values_are_one_cause() -> None:
    groups = BadRowGroups()
    for line in range(5):
        groups.add(
            f"/data/a.jsonl:{line}: box must lie inside the image (40x30 px), got x1={line}."
        )
    groups.add("/data/b, c.json, image id 7: image /x/a.png does not exist")
    first, second = groups.most_frequent()
    assert (first.count, len(first.messages)) == (5, 3)
    assert first.cause == "box must lie inside the image (…x… px), got x…=…."
    assert first.messages[0].startswith("/data/a.jsonl:0: ")
    assert second.count == 1


def test_the_first_fault_of_a_row_is_its_cause_and_lists_are_values() -> None:
    message = "a.json:1: box must be four numbers, got [1, 'x']. Also a.json:1: no label."
    assert cause_of(message) == "box must be four numbers, got …."


def test_the_number_of_causes_is_limited() -> None:
    groups = BadRowGroups()
    for number in range(1500):
        groups.add("a.json:1: " + "x" * (number + 1))
    assert sum(group.count for group in groups.most_frequent()) == 1500
    assert len(groups.groups) == 1001
