"""`palitune export` of a run, and what plain transformers does with it in another process."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from palitune import __main__ as program

from support.toy_data import write_toy_jsonl

QUICK = ["training.max_steps=1", "training.num_workers=0", "training.self_check=false"]
FEW = ["evaluation.num_workers=0", "evaluation.max_samples=2", "task.max_new_tokens=8"]
NEW_TOKENS = 12
SECRET = "5ec3e75ec3e75ec3e7"
SECRETS = ("HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY")


@pytest.fixture(scope="module")
def home(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run of a training on quantized weights, and a copy of its base."""
    home = tmp_path_factory.mktemp("home")
    write_toy_jsonl(home / "toys")
    shutil.copytree(tiny("paligemma2"), home / "base")
    with pytest.MonkeyPatch.context() as here:
        here.chdir(home)
        for name in SECRETS:
            here.setenv(name, SECRET)
        model = ["model=local", "model.path=base", "adapter=qlora", "adapter.rank=4"]
        parts = ["adapter.targets=[language,head]", "evaluate_before=false", "output_dir=run"]
        data = ["task=vqa", "data=jsonl", "data.path=toys"]
        assert program.run(["finetune", *data, *model, *parts, *QUICK, *FEW]) == 0
    weights = home / "run/adapter/adapter_model.safetensors"
    torch.manual_seed(0)
    moved = {key: w + 0.05 * torch.randn_like(w) for key, w in load_file(weights).items()}
    save_file(moved, weights)  # as after many steps
    return home


@pytest.fixture(autouse=True)
def _at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


def complaint(capfd: pytest.CaptureFixture[str], *told: str, code: int = 1) -> str:
    capfd.readouterr()
    assert program.run(["export", *told]) == code
    *_, said = capfd.readouterr().err.strip().splitlines()
    return said


def test_the_card_loads_it_in_plain_transformers_and_the_answer_is_the_adapters(
    home: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = ["--run", "run", f"max_new_tokens={NEW_TOKENS}", "samples=3", "output_dir=out"]
    assert program.run(["export", *told, "onnx=true"]) == 0
    said = " ".join(capfd.readouterr().out.split())
    assert "export against base + adapter: logits differ by at most" in said
    assert "export against base in 4 bits + adapter, as trained: logits differ by at most" in said

    made = home / "out/model"
    parity = json.loads((made / "parity.json").read_text())
    assert parity["largest"] < parity["bound"] == 1e-3
    assert parity["merged"]["same_tokens"] == 1.0
    assert parity["as_trained"]["max_difference"] > 100 * parity["merged"]["max_difference"]
    assert parity["largest_pixel_difference"] < 1e-6
    assert len(parity["prompts"]) == 3

    card = (made / "README.md").read_text()
    fingerprints = json.loads(Path("run/environment.json").read_text())["data"]
    assert f"| train | vqa | `{fingerprints['train']['vqa']}` |" in card
    assert "| vqa (n = 2) | exact_match |" in card
    assert "Gemma Terms of Use" in card
    assert str(home) not in card
    first = parity["prompts"][0]
    assert json.dumps(first["prompt"]) in card

    snippet, without_torch = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    image = re.search(r'Image.open\("(.*?)"\)', snippet)
    assert image
    shutil.copy(next(home.glob(f"toys/**/{image[1]}")), made)
    unseen = "import sys; assert not any('palitune' in name for name in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", f"{snippet}{unseen}"], cwd=made, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == first["trained"] + "\n"

    monkeypatch.chdir(made)
    capfd.readouterr()
    exec(without_torch, {})
    assert capfd.readouterr().out == done.stdout


def test_no_secret_of_the_environment_is_in_a_run_folder(home: Path) -> None:
    files = [file for file in (home / "run").rglob("*") if file.is_file()]
    assert {"config.yaml", "environment.json", "report.html"} <= {file.name for file in files}
    assert not [file for file in files if SECRET.encode() in file.read_bytes()]


def test_a_bound_that_is_not_kept_ends_in_one_sentence_and_leaves_the_numbers(
    capfd: pytest.CaptureFixture[str],
) -> None:
    base = ["model=local", "model.path=base", "adapter.path=run/adapter"]
    said = complaint(capfd, *base, "max_logit_error=0", "output_dir=far")
    assert re.fullmatch(
        r"palitune: far/model: logits must differ from those of base model and adapter by at most "
        r"max_logit_error=0 standard deviations, got \S+\. Do not use the export, or increase "
        r"max_logit_error if its parity.json is acceptable\.",
        said,
    )
    parity = json.loads(Path("far/model/parity.json").read_text())
    assert 0 < parity["largest"] < 1e-3
    assert [one["prompt"] for one in parity["prompts"]] == ["caption en"]


def test_an_image_of_ones_own_serves_and_a_quantized_export_is_reported_not_judged(
    home: Path,
) -> None:
    image = next((home / "toys").rglob("*.png")).relative_to(home)
    told = [f"image={image}", "prompt=detect red", "quantize=int8", "output_dir=small"]
    both = ["adapters=[run/adapter,run]", "weights=[0.5,0.5]", "combination_type=svd"]
    assert program.run(["export", "--run", "run", *told, *both]) == 0
    parity = json.loads(Path("small/model/parity.json").read_text())
    assert [one["prompt"] for one in parity["prompts"]] == ["detect red"]
    assert parity["bound"] is None
    assert parity["largest"] > 1e-3
    assert parity["quantize"] == "int8"
    card = Path("small/model/README.md").read_text()
    assert "2 combined adapters of LoRA (rule svd), reduced to rank 4, on a base quantized" in card
    assert "- rank 4 keeps 100.0% of the squared norm of the adapter's update" in card
    assert "- export against base + adapter of full rank: logits differ by at most " in card
    assert parity["reduction"]["kept_update"] == pytest.approx(1)
    halves = load_file("small/adapter/adapter_model.safetensors")
    whole = load_file("run/adapter/adapter_model.safetensors")
    assert halves.keys() == whole.keys()
    assert json.loads(Path("small/adapter/palitune.json").read_text())["bits"] is None


def test_mistakes_end_in_one_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    assert complaint(capfd, "model=tiny", code=2).startswith(
        "palitune: adapter.path is missing. Set adapter.path=FOLDER, or use --run with the run "
    )
    assert complaint(capfd, "model=tiny", "adapter.path=run/adapter").startswith(
        "palitune: the adapter was trained on base (paligemma2, 112 px), not on a paligemma of 112"
    )
    config = json.loads(Path("base/config.json").read_text())
    shutil.copytree("base", "four")
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    Path("four/config.json").write_text(json.dumps(config))
    assert complaint(capfd, "--run", "run", "model.path=four", "output_dir=out4") == (
        "palitune: four has quantized weights, into which no adapter is merged. Set model to the "
        "base without quantization."
    )
    assert complaint(capfd, "--run", "run", "image=nowhere.png").startswith("palitune: image ")
    assert not Path("outputs").exists()
