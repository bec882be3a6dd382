from palitune.report.text import escape_unprintable, truncate


def test_only_characters_that_garble_are_escaped() -> None:
    assert escape_unprintable("a\x00b\u202ec\ud800") == r"a\u0000b\u202ec\ud800"
    kept = "line\n\ttab שלום 👩\u200d🚀 naïve"
    assert escape_unprintable(kept) == kept


def test_a_long_text_ends_in_an_ellipsis() -> None:
    assert truncate("lighthouse", 10) == "lighthouse"
    assert truncate("lighthouses", 10) == "lighthous…"
