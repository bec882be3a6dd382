"""Settings of the server."""

import importlib.util
import ipaddress
from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le

from palitune.errors import check_ranges
from palitune.evaluation.object_quality.min_score import check_min_score

BASE_NAME = "base"
"""Name of the base model among the adapters."""
RUN_NAME = "adapter"
"""Name of the adapter in `adapter.path`."""
_PACKAGES = ("fastapi", "uvicorn", "multipart", "prometheus_client")


@dataclass(kw_only=True)
class ServerConfig:
    """Settings of the server."""

    host: str = "127.0.0.1"
    """Address to listen on; any other than a loopback address requires `api_key`."""
    port: Annotated[int, Ge(0), Le(65535)] = 8000
    """Port to listen on; 0: a free one, which is printed."""
    api_key: str | None = None
    """Key that requests send as `Authorization: Bearer KEY`, e.g. '${oc.env:PALITUNE_KEY}'; null:
    none is needed."""
    adapters: list[str] = field(default_factory=list)
    """Adapters to serve beside the base model, as NAME=FOLDER."""
    adapter_root: str | None = None
    """Folder below which requests may load further adapters while the server runs; null: none."""
    max_queue: Annotated[int, Ge(1)] = 256
    """Requests that may wait; beyond it a request is refused with status 429."""
    max_seconds: Annotated[float, Gt(0)] = 60.0
    """Seconds in which a request must arrive, else its connection is closed; then the seconds until
    its answer is given up with status 504."""
    max_image_bytes: Annotated[int, Ge(1)] = 20_000_000
    """Most bytes of an image file."""
    max_image_pixels: Annotated[int, Ge(1)] = 50_000_000
    """Most pixels of an image, from its header."""
    max_images: Annotated[int, Ge(1)] = 16
    """Most images per request."""
    max_tiles: Annotated[int, Ge(1)] = 64
    """Most tiles of an image; each is a question of its own."""
    max_prompt_chars: Annotated[int, Ge(1)] = 2000
    """Most characters of a prompt."""
    max_answer_tokens: Annotated[int, Ge(1)] = 1024
    """Most tokens that a request may ask for."""
    image_hosts: list[str] = field(default_factory=list)
    """Hosts from which image URLs are fetched (https only); empty: images come in the request."""
    min_score: Any = 0.0
    """Leave out objects with a lower score, where a request does not set its own: a number from 0
    to 1, or auto for the thresholds of best F1 that are stored with each adapter."""
    num_replayed: Annotated[int, Ge(0)] = 16
    """Stored predictions of the run folder that are generated again at start and compared."""

    def __post_init__(self) -> None:
        check_ranges(self)
        check_min_score(self.min_score)
        if self.max_tiles > self.max_queue:
            raise ValueError(
                f"max_tiles must be at most max_queue={self.max_queue}, got {self.max_tiles}. Set "
                "max_queue higher."
            )
        if missing := [name for name in _PACKAGES if importlib.util.find_spec(name) is None]:
            raise ValueError(
                f"serve requires the packages {', '.join(missing)}. Run pip install '.[serve]'."
            )
        if self.api_key is not None and not self.api_key.strip():
            raise ValueError("api_key must not be empty. Set a key, or null.")
        if self.api_key is None and not is_loopback(self.host):
            raise ValueError(
                f"host must be a loopback address without api_key, got {self.host}. Set api_key, "
                "or host=127.0.0.1."
            )
        self.adapter_folders()

    def adapter_folders(self) -> dict[str, str]:
        """Return the folder of each adapter by name."""
        folders: dict[str, str] = {}
        for entry in self.adapters:
            name, separator, folder = entry.partition("=")
            if not separator or not name or not folder:
                raise ValueError(
                    f"adapters must be NAME=FOLDER, got {entry!r}. Set adapters=[boats=FOLDER]."
                )
            if name in (BASE_NAME, RUN_NAME, *folders):
                raise ValueError(f"adapters must have different names, got {name} twice.")
            folders[name] = folder
        return folders


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
