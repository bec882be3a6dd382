"""Merge an adapter (adapter.path=FOLDER) into its base: a folder that plain transformers reads."""

from palitune import exporting, models, report
from palitune.config import Export, recipe, to_yaml


@recipe(Export)
def export(run: Export) -> None:
    examples = exporting.take_samples(run, run.data, run.task, run.evaluation.split)
    adapters = run.combined(run.adapter)
    processor = models.load_processor(run.model)

    network = models.load_combined(run.model, adapters, quantized=False)
    references = [exporting.written(network, processor, examples, run.new_tokens)]
    folder = report.open_run(run.output_dir, to_yaml(run))
    made = folder / "model"
    models.export(network, processor, run.model, made, dtype=run.dtype, quantize=run.quantize)
    del network

    bits = models.trained_bits(adapters.paths[0])
    if bits:
        network = models.load_combined(run.model, adapters, quantized=True)
        references.append(exporting.written(network, processor, examples, run.new_tokens))
        del network

    parity = exporting.compare(
        made, processor, examples, references, run, model=run.model, bits=bits
    )
    exporting.describe(made, adapters, parity, examples, run)
    report.say(parity.sentences())
    exporting.check(parity, made)
    if run.onnx:
        report.say([f"ONNX Runtime computes what the model does: {models.write_onnx(made)}"])
    if run.push_to_hub:
        report.say([exporting.push(made, run.push_to_hub, private=run.private)])


if __name__ == "__main__":
    export()
