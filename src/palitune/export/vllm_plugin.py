"""Plugin of vLLM (entry point `vllm.general_plugins`): PaliGemma reads its prompt bidirectionally.

vLLM reads every prompt causally, or on some GPUs all but the images, and PaliGemma was trained with
attention over the whole prompt. If a prompt is computed in one pass, no pass needs a causal mask: a
generated token is the last one in any case. Therefore prompts must not be split (chunked prefill)
or continued from those of others (prefix caching: the key of an image depends on its prompt).

Tried with vLLM 0.32.0. Imports nothing of Palitune, torch or vLLM before vLLM calls it.
"""

from functools import wraps
from typing import Any

REFUSAL = (
    "PaliGemma reads its prompt in both directions. Set enable_chunked_prefill=False and "
    "enable_prefix_caching=False (--no-enable-chunked-prefill --no-enable-prefix-caching)."
)
TRIED_VERSIONS = ("0.32.0",)
_MARK = "_palitune_prompts_are_bidirectional"


def register() -> None:
    """Patch the model runner of this process; called by vLLM in each of its processes."""
    try:
        import vllm.v1.worker.gpu_model_runner as runner

        patch(runner)
    except (ImportError, AttributeError) as error:
        raise RuntimeError(
            f"palitune's plugin does not fit this version of vLLM ({error}); it was tried with "
            f"{', '.join(TRIED_VERSIONS)}. Install that version, or set VLLM_PLUGINS='' if no "
            "PaliGemma is served."
        ) from error


def patch(runner: Any) -> None:
    """Patch vLLM's module of the model runner, once; models other than PaliGemma are unaffected."""
    if hasattr(runner, _MARK):
        return
    metadata_class, initialize = runner.CommonAttentionMetadata, runner.GPUModelRunner.__init__

    def bidirectional_metadata(*args: Any, **kwargs: Any) -> Any:
        return metadata_class(*args, **{**kwargs, "causal": False})

    @wraps(initialize)
    def initialize_runner(self: Any, vllm_config: Any, *args: Any, **kwargs: Any) -> None:
        if vllm_config.model_config.hf_config.model_type == "paligemma":
            check_settings(vllm_config)
            runner.CommonAttentionMetadata = bidirectional_metadata
            # Otherwise the bidirectional ranges of images would replace this mask.
            vllm_config.model_config.model_arch_config.is_mm_prefix_lm = False
        initialize(self, vllm_config, *args, **kwargs)

    runner.GPUModelRunner.__init__ = initialize_runner
    setattr(runner, _MARK, True)


def check_settings(vllm_config: Any) -> None:
    """Raise ValueError for settings with which a prompt would not be computed in one pass."""
    chunked = vllm_config.scheduler_config.enable_chunked_prefill
    if chunked or vllm_config.cache_config.enable_prefix_caching:
        raise ValueError(REFUSAL)
