"""Predictions of an OpenAI-compatible server, and their comparison with those of a run.

Images travel as PNG data URIs, so a server sees the pixels of the evaluation whatever the format of
the file. Requests use only the standard library.
"""

import base64
import io
import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from palitune.errors import EndpointError
from palitune.evaluation.bootstrap import ConfidenceInterval
from palitune.evaluation.config import EvaluationConfig
from palitune.evaluation.inference import make_progress
from palitune.evaluation.output_validity import OutputValidity
from palitune.evaluation.scoring import Results, score_predictions
from palitune.metrics import METRICS
from palitune.records import Example, Prediction
from palitune.tasks import Task

if TYPE_CHECKING:
    from palitune.data.dataset import TaskDataset

API_KEY_VARIABLE = "OPENAI_API_KEY"
TIMEOUT_SECONDS = 600
_BUSY = (429, 503)
"""Statuses of a server that has too much to do."""
_PAUSES = (0.2, 1.0, 5.0)
"""Seconds before each further attempt, if the server is busy or closed the connection."""
_EOS = "<eos>"
_SHOWN_DIFFERENCES = 3
_MAX_ANSWER_LENGTH = 60


def predict_with_endpoint(
    url: str, model: str, datasets: "Sequence[TaskDataset]", settings: EvaluationConfig
) -> list[list[Prediction]]:
    """Answer the first `max_samples` examples of every dataset by a server, greedily.

    `batch_size` requests are under way at a time. The API key is read from OPENAI_API_KEY.

    Args:
        url: Address up to the version, e.g. http://127.0.0.1:8000/v1.
        model: Name of the model on the server.
        datasets: Datasets with their tasks.
        settings: Evaluation settings.

    Raises:
        EndpointError: If the server cannot be reached or refuses a request.
    """
    predictions = []
    with make_progress() as progress, ThreadPoolExecutor(settings.batch_size) as threads:
        for dataset in datasets:
            examples = [dataset.examples[n] for n in range(settings.num_examples(dataset.examples))]
            futures = [
                threads.submit(_predict, url, model, dataset.task, example) for example in examples
            ]
            try:
                label = f"{dataset.name} by {url}"
                predictions.append([f.result() for f in progress.track(futures, description=label)])
            except EndpointError:
                threads.shutdown(cancel_futures=True)
                raise
    return predictions


def _predict(url: str, model: str, task: Task, example: Example) -> Prediction:
    images = [
        {"type": "image_url", "image_url": {"url": _data_uri(path)}} for path in example.images
    ]
    body = {
        "model": model,
        "messages": [
            {"role": "user", "content": [*images, {"type": "text", "text": example.prefix}]}
        ],
        "temperature": 0,
        "max_tokens": task.max_new_tokens,
        "skip_special_tokens": False,  # vLLM would leave out <loc> and <seg>
    }
    answer = _post(f"{url.rstrip('/')}/chat/completions", body)
    try:
        [choice] = answer["choices"]
        text = (choice["message"]["content"] or "").removesuffix(_EOS)
        finished = choice["finish_reason"] == "stop"
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EndpointError(
            f"endpoint={url}: the answer is not a chat completion ({str(answer)[:200]}). Set the "
            "address of an OpenAI-compatible server up to /v1."
        ) from error
    value = task.parse(text, example.size)
    return Prediction(id=example.id, text=text, value=value, finished=finished)


def _data_uri(path: str) -> str:
    from palitune.data.images.io import open_image

    buffer = io.BytesIO()
    open_image(path).save(buffer, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _post(url: str, body: dict[str, Any]) -> Any:
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get(API_KEY_VARIABLE):
        headers["Authorization"] = f"Bearer {key}"
    request = Request(url, json.dumps(body).encode(), headers)
    for pause in (*_PAUSES, None):
        try:
            with urlopen(request, timeout=TIMEOUT_SECONDS) as response:
                return json.load(response)
        except (HTTPError, URLError, OSError, ValueError) as error:
            if pause is None or not _is_temporary(error):
                raise _endpoint_error(url, error) from error
            time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def _is_temporary(error: Exception) -> bool:
    """Return whether a server may answer the same request a little later."""
    if isinstance(error, HTTPError):
        return error.code in _BUSY
    return isinstance(getattr(error, "reason", error), ConnectionResetError)


def _endpoint_error(url: str, error: Exception) -> EndpointError:
    if isinstance(error, HTTPError):
        detail = error.read(300).decode("utf-8", "replace")
        return EndpointError(
            f"{url} refused a request with status {error.code} ({detail}). Check endpoint_model, "
            f"the server's log, and the API key in {API_KEY_VARIABLE}."
        )
    return EndpointError(
        f"{url} cannot be reached or gives no JSON ({error}). Start the server, or set endpoint to "
        "its address up to /v1."
    )


@dataclass(frozen=True, kw_only=True)
class EndpointComparison:
    """Difference of a server's answers from those of a run."""

    identical: int
    """Number of identical texts."""
    total: int
    differences: list[dict[str, str]]
    """Example, prompt, answer of the run and of the server, for each text that differs."""
    changes: dict[str, tuple[float, ConfidenceInterval | None]]
    """Metric of the server minus that of the run, with its 95 % confidence interval."""

    @property
    def largest_change(self) -> float:
        """Largest absolute change of a metric; without metrics, the share of other answers."""
        if not self.changes:
            return 1 - self.identical / self.total
        return max(abs(change) for change, _ in self.changes.values())

    def summary_lines(self) -> list[str]:
        """Return sentences for the terminal."""
        share = self.identical / self.total
        lines = [f"{self.identical} of {self.total} answers are identical ({share:.1%})"]
        lines += [
            f"{one['id']} ({one['prompt']}): "
            f"{_shorten(one['run'])} became {_shorten(one['server'])}"
            for one in self.differences[:_SHOWN_DIFFERENCES]
        ]
        for name, (change, interval) in self.changes.items():
            bounds = (
                f" (95 % interval {interval[0]:+.3f} to {interval[1]:+.3f})" if interval else ""
            )
            lines.append(f"{name}: {change:+.3f}{bounds}")
        return lines

    def check(self, max_difference: float) -> None:
        """Raise EndpointError if a metric changed by more than `max_difference`."""
        if self.largest_change > max_difference:
            raise EndpointError(
                f"the server's answers must change no metric by more than max_difference="
                f"{max_difference:g}, got {self.largest_change:.3g}. Check the attention mask, "
                "dtype and adapter of the server, or increase max_difference."
            )


def compare_with_run(
    datasets: "Sequence[TaskDataset]",
    predictions: Sequence[Sequence[Prediction]],
    results: Results,
    run_predictions: Sequence[Sequence[Prediction]],
    settings: EvaluationConfig,
) -> EndpointComparison:
    """Compare predictions of a server with those of a run for the same examples.

    Args:
        datasets: Datasets with their tasks.
        predictions: Predictions of the server.
        results: Their scores.
        run_predictions: Predictions of the run, which are scored here.
        settings: Evaluation settings.
    """
    run_results = score_predictions(datasets, run_predictions, settings)
    differences, total = [], 0
    for dataset, server, run in zip(datasets, predictions, run_predictions, strict=True):
        for index, (answer, expected) in enumerate(zip(server, run, strict=True)):
            total += 1
            if answer.text != expected.text or expected.missing:
                prompt = dataset.examples[index].prefix
                texts = {"run": expected.text, "server": answer.text}
                differences.append({"id": answer.id, "prompt": prompt, **texts})
    intervals = results.difference_intervals(run_results)
    return EndpointComparison(
        identical=total - len(differences),
        total=total,
        differences=differences,
        changes={
            name: (results.metrics[name] - run_results.metrics[name], intervals.get(name))
            for name in _compared_metrics(results)
        },
    )


def _compared_metrics(results: Results) -> Iterator[str]:
    """Yield the keys of the tasks' own metrics and of the share of malformed answers."""
    for dataset, names in results.metric_names_by_dataset.items():
        for metric in (*(METRICS[name]() for name in names), OutputValidity()):
            for key in metric.compute():
                if f"{dataset}/{key}" in results.metrics:
                    yield f"{dataset}/{key}"


def _shorten(text: str) -> str:
    short = text if len(text) <= _MAX_ANSWER_LENGTH else f"{text[:_MAX_ANSWER_LENGTH]}…"
    return repr(short)
