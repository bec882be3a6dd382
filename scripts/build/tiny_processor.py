"""PaliGemma's processor around a small byte-level tokenizer, for embedded and test models."""

from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PaliGemmaProcessor, PreTrainedTokenizerFast
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil


def build_tiny_processor(
    corpus: Sequence[str], *, vocab_size: int, max_length: int, image_size: int, patch_size: int
) -> PaliGemmaProcessor:
    """Build a processor with all `<loc>` and `<seg>` tokens. Each digit is one token.

    Args:
        corpus: Texts that the tokenizer is trained on.
        vocab_size: Number of tokens, without those that the processor adds.
        max_length: Maximum number of tokens of a sequence.
        image_size: Width and height of the images in pixels.
        patch_size: Width and height of a patch in pixels.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Split("\n", "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<pad>", "<eos>", "<bos>", "<unk>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
        min_frequency=1,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        padding_side="right",
        model_max_length=max_length,
    )
    images = SiglipImageProcessorPil(
        size={"height": image_size, "width": image_size}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    images.image_seq_length = (image_size // patch_size) ** 2
    return PaliGemmaProcessor(image_processor=images, tokenizer=fast)
