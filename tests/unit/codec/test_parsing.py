from palitune.codec.parsing import format_json


def test_written_json_is_strict() -> None:
    content = {"a": float("nan"), "b": [float("inf"), 1.5, (float("-inf"),)], "é": "ü"}
    assert format_json(content) == '{"a": null, "b": [null, 1.5, [null]], "é": "ü"}'
