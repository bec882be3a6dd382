"""Settings of the server: closed by default."""

import pytest

from palitune.serving.config import ServerConfig, is_loopback


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.4", False),
        ("localhost.example.com", False),
    ],
)
def test_only_loopback_addresses_need_no_key(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
    if loopback:
        assert ServerConfig(host=host).api_key is None
    else:
        with pytest.raises(ValueError, match=r"loopback address without api_key.*Set api_key"):
            ServerConfig(host=host)
        assert ServerConfig(host=host, api_key="secret").host == host


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"api_key": " "}, "api_key must not be empty"),
        ({"adapters": ["boats"]}, "NAME=FOLDER, got 'boats'"),
        ({"adapters": ["a=x", "a=y"]}, "got a twice"),
        ({"adapters": ["base=x"]}, "got base twice"),
        ({"max_queue": 0}, "max_queue must be at least 1, got 0"),
        ({"port": 70000}, "port must be at least 0 and at most 65535, got 70000"),
    ],
)
def test_a_bad_setting_is_a_sentence(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ServerConfig(**settings)  # type: ignore[arg-type]


def test_adapters_have_names_and_folders() -> None:
    assert ServerConfig(adapters=["a=x/y", "b=z=1"]).adapter_folders() == {"a": "x/y", "b": "z=1"}
