"""The collator equals the Hugging Face processor, and its tokens decode to the text."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoProcessor

from palitune.data.collator import IGNORE_INDEX, Collator
from palitune.data.images.io import decode_image
from palitune.data.images.transforms import IDENTITY_TRANSFORM, ImageTransform
from palitune.data.training_set import TargetSampling, TrainingSample, TrainingSet
from palitune.errors import DataError
from palitune.models.paligemma import normalize_pixels
from palitune.records import Example


@pytest.fixture(scope="module")
def processor(tiny: Callable[[str], Path]) -> AutoProcessor:
    return AutoProcessor.from_pretrained(tiny("paligemma2"))


@pytest.fixture
def samples(examples: list[Example]) -> list[TrainingSample]:
    return [TrainingSample(example, example.suffixes[0]) for example in examples]


def test_a_training_row_reads_image_bos_prefix_newline_suffix_eos_pad(
    processor: AutoProcessor, samples: list[TrainingSample]
) -> None:
    batch = Collator(processor).collate_train(samples)
    width = batch["input_ids"].shape[1]
    for row, sample in enumerate(samples):
        text = processor.tokenizer.decode(
            batch["input_ids"][row], clean_up_tokenization_spaces=False
        )
        written = "<image>" * 64 + "<bos>" + sample.example.prefix + "\n" + sample.suffix + "<eos>"
        padding = width - int(batch["attention_mask"][row].sum())
        assert text == written + "<pad>" * padding


def test_a_training_batch_equals_the_processors_own(
    processor: AutoProcessor, samples: list[TrainingSample]
) -> None:
    ours = Collator(processor).collate_train(samples)
    theirs = processor(
        images=[[Image.open(sample.example.images[0])] for sample in samples],
        text=["<image>" + sample.example.prefix for sample in samples],
        suffix=[sample.suffix for sample in samples],
        padding="longest",
        return_tensors="pt",
    )
    for name in ("input_ids", "attention_mask", "token_type_ids", "labels"):
        assert torch.equal(ours[name], theirs[name]), name
    assert torch.equal(normalize_pixels(ours["pixel_values"]), theirs["pixel_values"])


def test_a_prompt_batch_equals_the_processors_own_with_left_padding(
    processor: AutoProcessor, examples: list[Example]
) -> None:
    ours = Collator(processor).collate_prompts(examples)
    theirs = processor(
        images=[[Image.open(example.images[0])] for example in examples],
        text=["<image>" + example.prefix for example in examples],
        padding="longest",
        padding_side="left",
        return_tensors="pt",
    )
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        assert torch.equal(ours[name], theirs[name]), name
    assert "labels" not in ours


def test_a_prompt_has_the_image_transforms_of_training(
    processor: AutoProcessor, samples: list[TrainingSample]
) -> None:
    transformed = [
        replace(sample, transforms=(ImageTransform(hflip=bool(n)),))
        for n, sample in enumerate(samples)
    ]
    collator = Collator(processor)
    prompts = collator.collate_prompts(
        [sample.example for sample in transformed], [sample.transforms for sample in transformed]
    )
    assert torch.equal(prompts["pixel_values"], collator.collate_train(transformed)["pixel_values"])


def test_labels_are_suffix_and_eos_only(
    processor: AutoProcessor, samples: list[TrainingSample]
) -> None:
    batch = Collator(processor).collate_train(samples)
    assert torch.equal(batch["labels"] != IGNORE_INDEX, batch["token_type_ids"] == 1)
    for row, sample in enumerate(samples):
        labels = batch["labels"][row]
        text = processor.tokenizer.decode(
            labels[labels != IGNORE_INDEX], clean_up_tokenization_spaces=False
        )
        assert text == sample.suffix + "<eos>"


def test_two_images_are_two_blocks_of_image_tokens(
    processor: AutoProcessor, examples: list[Example]
) -> None:
    both = replace(examples[0], images=examples[0].images + examples[1].images)
    batch = Collator(processor).collate_prompts([both])
    assert int((batch["input_ids"] == processor.image_token_id).sum()) == 2 * 64
    assert batch["pixel_values"].shape == (2, 3, 112, 112)


def test_a_newline_at_the_end_of_a_prefix_is_a_separate_token(
    processor: AutoProcessor, examples: list[Example]
) -> None:
    collator = Collator(processor)
    batch = collator.collate_prompts([replace(examples[0], prefix="Question: x\n")])
    assert batch["input_ids"][0, -2:].tolist() == collator.newline_token_id * 2


def test_a_row_above_max_length_is_refused_with_its_place(
    processor: AutoProcessor, samples: list[TrainingSample]
) -> None:
    longest = max(Collator(processor).num_tokens(sample.example) for sample in samples)
    Collator(processor, max_length=longest).collate_train(samples)
    with pytest.raises(DataError, match=r"drawn:\d: .* \d+ tokens \(64 of them for its image\)"):
        Collator(processor, max_length=longest - 1).collate_train(samples)


def test_the_error_of_a_row_with_many_images_counts_their_tokens(
    processor: AutoProcessor, examples: list[Example]
) -> None:
    video = TrainingSample(replace(examples[0], images=examples[0].images * 16), "73")
    with pytest.raises(DataError, match=r"1024 of them for its 16 images\), and .* is 1000"):
        Collator(processor, max_length=1000).collate_train([video])


def test_each_image_has_a_separate_transform(
    processor: AutoProcessor, examples: list[Example]
) -> None:
    twice = replace(examples[0], images=examples[0].images * 2)
    collator = Collator(processor)
    views = IDENTITY_TRANSFORM, ImageTransform(hflip=True)
    images = collator.collate_train([TrainingSample(twice, "73", views)])["pixel_values"]
    assert not torch.equal(images[0], images[1])
    for image, view in zip(images, views, strict=True):
        assert torch.equal(image, collator.load_pixels(examples[0].images[0], view))


def test_small_images_are_decoded_once_and_large_ones_every_time(
    processor: AutoProcessor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    monkeypatch.setattr(
        "palitune.data.collator.decode_image",
        lambda path: decoded.append(path) or decode_image(path),
    )
    small, large = (str(tmp_path / name) for name in ("small.png", "large.png"))
    Image.linear_gradient("L").resize((128, 128)).save(small)
    Image.linear_gradient("L").resize((128, 129)).save(large)
    collator = Collator(processor)
    pixels = [
        [collator.load_pixels(path, ImageTransform(hflip=True)) for path in (small, large)]
        for _ in "123"
    ]
    assert decoded == [small, large, large, large]
    for again in pixels[1:]:
        assert all(torch.equal(a, b) for a, b in zip(again, pixels[0], strict=True))


def test_a_marked_box_is_outlined_in_red_after_the_image_is_resized(
    processor: AutoProcessor, examples: list[Example]
) -> None:
    plain = replace(examples[0], size=(160, 120))
    marked = replace(plain, marked_box=(40, 30, 80, 90))
    pixels = Collator(processor).collate_prompts([plain, marked])["pixel_values"]
    _, _, height, width = pixels.shape
    outlined = (pixels[0] != pixels[1]).any(dim=0)
    rows, columns = outlined.nonzero(as_tuple=True)
    top, bottom, left, right = (int(f * (side - 1)) for f, side in (
        (0.25, height), (0.75, height), (0.25, width), (0.5, width)
    ))  # fmt: skip
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (top, bottom, left, right)
    assert int(outlined.sum()) == 2 * (right - left + 1) + 2 * (bottom - top - 1)
    assert pixels[1][:, top, left:right].unique(dim=1).tolist() == [[255], [0], [0]]


def test_an_unreadable_image_is_reported_with_its_row(
    processor: AutoProcessor, examples: list[Example], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(examples[0].images[0]).read_bytes()[:60])
    with pytest.raises(DataError, match=r"drawn:0: .*broken\.png"):
        Collator(processor).collate_prompts([replace(examples[0], images=(str(broken),))])


def test_cycling_uses_every_target_equally_often(examples: list[Example]) -> None:
    training_set = TrainingSet(examples, TargetSampling.cycle, seed=3)
    suffixes = []
    for epoch in range(4):
        training_set.set_epoch(epoch)
        suffixes.append(training_set[2].suffix)
    assert sorted(suffixes[:2]) == sorted(suffixes[2:]) == ["2", "two"]


def test_sampled_targets_depend_on_seed_and_epoch_alone(examples: list[Example]) -> None:
    def sampled_suffixes(seed: int) -> list[str]:
        training_set = TrainingSet(examples, TargetSampling.sample, seed)
        suffixes = []
        for epoch in range(20):
            training_set.set_epoch(epoch)
            suffixes.append(training_set[2].suffix)
        return suffixes

    assert sampled_suffixes(0) == sampled_suffixes(0)
    assert sampled_suffixes(0) != sampled_suffixes(1)
    assert set(sampled_suffixes(0)) == {"two", "2"}


def test_first_takes_the_first_target(examples: list[Example]) -> None:
    assert [sample.suffix for sample in TrainingSet(examples, TargetSampling.first, 0)] == [
        example.suffixes[0] for example in examples
    ]


def test_all_suffixes_of_an_example_are_in_one_row_with_their_numbers(
    tiny: Callable[[str], Path], examples: list[Example]
) -> None:
    processor = AutoProcessor.from_pretrained(tiny("paligemma"))
    collator = Collator(processor)
    sample = TrainingSet(examples, TargetSampling.all, 0)[2]
    batch = collator.collate_train([sample])
    types, ids = batch["token_type_ids"][0], batch["input_ids"][0]
    assert [
        processor.tokenizer.decode(ids[types == number])
        for number in range(1, int(types.max()) + 1)
    ] == ["two<eos>", "2<eos>"]
    assert types.tolist() == sorted(types.tolist())
    assert torch.equal(batch["labels"][0] != -100, types > 0)


def test_a_batch_has_every_image_once(tiny: Callable[[str], Path], examples: list[Example]) -> None:
    collator = Collator(AutoProcessor.from_pretrained(tiny("paligemma")))
    chosen = [examples[0], examples[1], examples[0]]
    batch = collator.collate_train([TrainingSample(example, "x") for example in chosen])
    first = collator.collate_prompts(chosen[:1])["pixel_values"]
    for collated in (batch, collator.collate_prompts(chosen)):
        assert collated["image_index"].tolist() == [0, 1, 0]
        assert torch.equal(collated["pixel_values"][:1], first)
        assert len(collated["pixel_values"]) == 2
    assert "image_index" not in collator.collate_train(
        [TrainingSample(example, "x") for example in chosen[:2]]
    )


@pytest.mark.parametrize("word", ["<image>", "<eos>", "<pad>", "<bos>", "<unk>", "<mask>"])
def test_control_tokens_typed_in_a_row_are_plain_characters(
    word: str, processor: AutoProcessor, samples: list[TrainingSample]
) -> None:
    example = replace(samples[0].example, prefix=f"what is {word}?", suffixes=(f"a {word} b",))
    batch = Collator(processor).collate_train([TrainingSample(example, f"a {word} b")])
    tokenizer, ids = processor.tokenizer, batch["input_ids"][0].tolist()
    special = [i for i in ids if i in tokenizer.all_special_ids]
    image, bos, eos = tokenizer.convert_tokens_to_ids(["<image>", "<bos>", "<eos>"])
    assert special == [image] * 64 + [bos, eos]
    labels = batch["labels"][0]
    assert tokenizer.decode(labels[labels != IGNORE_INDEX]) == f"a {word} b<eos>"
    prompt = Collator(processor).collate_prompts([example])["input_ids"][0].tolist()
    assert prompt == ids[: len(prompt)]
    assert Collator(processor).num_tokens(example) == len(ids)
