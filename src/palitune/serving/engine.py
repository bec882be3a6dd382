"""The model of a server: one base in memory, and adapters that are switched between batches."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from palitune.data.collator import Collator
from palitune.errors import ModelError
from palitune.evaluation.answering import Question, answer
from palitune.models.adapters.checkpoint import AdapterMetadata, load_additional_adapter
from palitune.models.adapters.config import AdapterConfig, Full
from palitune.models.config import ModelConfig, Network
from palitune.models.loading import load_for_inference
from palitune.serving.config import BASE_NAME
from palitune.serving.running_questions import Result, RunningQuestions, answer_alone


class Engine:
    """Answers questions with the base model or one of its adapters.

    Not thread-safe: one thread calls all methods that use the network.
    """

    def __init__(
        self,
        model: ModelConfig,
        adapter: AdapterConfig,
        name: str,
        collator: Collator,
    ) -> None:
        """Load the base model and, if `adapter.path` is set, its first adapter.

        Args:
            model: The base model.
            adapter: Adapter settings; quantization and soft-caps are those of its training.
            name: Name of the adapter in requests.
            collator: Makes batches of questions.
        """
        self.collator = collator
        self.network: Network = load_for_inference(model, adapter)
        self._internal_names: dict[str, str] = {}
        """Name of each adapter in the PEFT model, by its name in requests."""
        self._folders: dict[str, str] = {}
        self._has_full_adapter = False
        if adapter.path is not None:
            self._has_full_adapter = AdapterMetadata.read(adapter.path).adapter == Full.name
            self._internal_names[name] = "default"
            self._folders[name] = adapter.path

    @property
    def names(self) -> list[str]:
        """Names that requests can choose: the adapters, then the base model."""
        if self._has_full_adapter:  # its weights replace those of the base
            return [*self._internal_names]
        return [*self._internal_names, BASE_NAME]

    def folder(self, name: str) -> str | None:
        """Return the folder of an adapter; None for the base model."""
        return self._folders.get(name)

    def add_adapter(self, name: str, folder: str) -> None:
        """Load a further LoRA. Raises ModelError if it does not fit the base or exists."""
        if name in self.names or name == BASE_NAME:
            raise ModelError(f"{name} is already served. Choose another name.")
        if not self._internal_names:
            raise ModelError(
                "adapters can be added only to a server that was started with one. Set "
                "adapter.path or adapters."
            )
        if self._has_full_adapter:
            raise ModelError("a model with adapter=full serves no other adapters.")
        internal = f"served_{name}"
        load_additional_adapter(self.network, folder, internal)
        self._internal_names[name] = internal
        self._folders[name] = folder

    def remove_adapter(self, name: str) -> None:
        """Free an added adapter. Raises ModelError if there is none, or it is the first."""
        internal = self._internal_names.get(name)
        if internal is None or internal == "default":
            raise ModelError(f"{name} is not an adapter that was added.")
        del self._internal_names[name]
        del self._folders[name]
        self.network.set_adapter("default")
        self.network.delete_adapter(internal)

    def answer_batch(
        self, name: str, questions: Sequence[Question], num_beams: int
    ) -> list[Result]:
        """Answer questions in one batch; if that fails, one by one, so that only the cause fails.

        Args:
            name: Adapter, one of `names`.
            questions: The questions.
            num_beams: Beams per question.

        Returns:
            For each question its prediction, or the error that it alone causes.
        """
        network, collator = self.network, self.collator
        with self._use(name):
            try:
                return [*answer(network, collator, questions, num_beams=num_beams)]
            except Exception:  # of one of the questions, or out of memory
                return [
                    answer_alone(network, collator, question, num_beams=num_beams)
                    for question in questions
                ]

    def start(self, name: str) -> RunningQuestions:
        """Activate an adapter and return an empty batch for it, to be closed before any other call.

        Raises ModelError if the adapter was removed.
        """
        return RunningQuestions(self.network, self.collator, self._use(name))

    def _use(self, name: str) -> AbstractContextManager[None]:
        """Activate an adapter, or return a context without any for the base model."""
        if name not in self.names:
            raise ModelError(f"{name} was removed.")
        if name == BASE_NAME and self._internal_names:
            without: AbstractContextManager[None] = self.network.disable_adapter()
            return without
        if name in self._internal_names and not self._has_full_adapter:
            self.network.set_adapter(self._internal_names[name])
        return nullcontext()
