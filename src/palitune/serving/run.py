"""Start of the server: load, check, listen, and end after the last answer."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import uvicorn

from palitune.distributed.preemption import Preempted
from palitune.evaluation.config import EvaluationConfig
from palitune.evaluation.inference import make_collator
from palitune.evaluation.object_quality.min_score import AUTO, resolve_min_score
from palitune.evaluation.partial_predictions import PREDICTIONS_FILE
from palitune.models.adapters.config import AdapterConfig
from palitune.models.config import ModelConfig
from palitune.models.loading import load_processor
from palitune.serving.app import Service, create_app
from palitune.serving.config import RUN_NAME, ServerConfig
from palitune.serving.engine import Engine
from palitune.serving.request_deadline import protocol_with_deadline
from palitune.serving.requests import ServedTasks
from palitune.serving.startup_checks import check_model, replay_predictions
from palitune.tasks import Task

SHUTDOWN_SECONDS = 30
"""Time for the answers of running requests after SIGTERM."""


def load_engine(
    model: ModelConfig,
    adapter: AdapterConfig,
    further_adapters: Mapping[str, str],
    evaluation: EvaluationConfig,
) -> Engine:
    """Load base model and adapters.

    Args:
        model: The base model.
        adapter: Settings with the folder of the first adapter, if any.
        further_adapters: Folder of each further adapter by name.
        evaluation: Settings of image loading.
    """
    collator = make_collator(load_processor(model), evaluation)
    engine = Engine(model, adapter, _adapter_name(adapter), collator)
    for name, folder in further_adapters.items():
        engine.add_adapter(name, folder)
    return engine


def startup_checks(
    engine: Engine,
    tasks: Mapping[str, Task],
    evaluation: EvaluationConfig,
    adapter: AdapterConfig,
    num_replayed: int,
    min_score: float | str = 0.0,
) -> list[str]:
    """Check the loaded model and repeat stored predictions; return a sentence per check.

    Args:
        engine: The loaded model.
        tasks: Task of each component of the run's data.
        evaluation: Evaluation settings of the run.
        adapter: Settings with the folder of the run's adapter.
        num_replayed: Stored predictions to repeat.
        min_score: Setting of the server; auto raises DataError if an adapter has no thresholds.
    """
    network, collator = engine.network, engine.collator
    checks = check_model(network, collator)
    if min_score == AUTO:
        checks += _threshold_checks(tasks, adapter)
    stored = _stored_predictions(adapter)
    if num_replayed and stored is not None:
        sentence = replay_predictions(network, collator, stored, tasks, evaluation, num_replayed)
        checks.append(sentence)
    return checks


def _threshold_checks(tasks: Mapping[str, Task], adapter: AdapterConfig) -> list[str]:
    names = dict.fromkeys(task.name for task in tasks.values() if not task.value_is_text)
    return [f"{name}: {resolve_min_score(AUTO, adapter.path, name).describe()}" for name in names]


def serve_http(
    engine: Engine, tasks: Mapping[str, Task], settings: ServerConfig, evaluation: EvaluationConfig
) -> None:
    """Serve until SIGTERM or Ctrl-C; running requests are answered first.

    Args:
        engine: The loaded model.
        tasks: Tasks of the served model.
        settings: Address and limits.
        evaluation: Most questions per batch, and the tiles of requests that set none.
    """
    service = Service(
        engine,
        ServedTasks(tuple(tasks.values())),
        settings,
        evaluation.batch_size,
        evaluation.tiles,
    )
    app = create_app(service, api_key=settings.api_key)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_level="warning",
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        server_header=False,
        ws="none",
        http=protocol_with_deadline(settings.max_seconds),
    )
    # uvicorn raises the signal that ended it again.
    with suppress(KeyboardInterrupt, Preempted):
        _AnnouncingServer(config).run()


class _AnnouncingServer(uvicorn.Server):
    """Prints the address, with the port that the system chose, once requests are accepted."""

    async def startup(self, sockets: list | None = None) -> None:  # type: ignore[type-arg]
        await super().startup(sockets)
        for server in self.servers:
            for socket in server.sockets:
                host, port = socket.getsockname()[:2]
                address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
                print(f"serving on http://{address} (page at /, API at /docs)", flush=True)


def _adapter_name(adapter: AdapterConfig) -> str:
    """Return the name of the first adapter: that of its run folder."""
    if adapter.path is None:
        return RUN_NAME
    path = Path(adapter.path).resolve()
    return (path.parent.name if path.name == "adapter" else path.name) or RUN_NAME


def _stored_predictions(adapter: AdapterConfig) -> Path | None:
    if adapter.path is None:
        return None
    file = Path(adapter.path).parent / PREDICTIONS_FILE
    return file if file.is_file() else None
