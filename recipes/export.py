"""Merge an adapter (adapter.path=FOLDER) into its base model, for plain transformers."""

from palitune.cli.recipe import recipe
from palitune.config.recipes import Export
from palitune.config.to_yaml import to_yaml


@recipe(Export)
def export(run: Export) -> None:
    from palitune.export.export_model import (
        export_merged,
        export_onnx,
        export_settings,
        serving_notes,
    )
    from palitune.export.hub import upload_folder
    from palitune.export.parity import greedy_outputs, measure_parity, report_parity
    from palitune.export.samples import select_parity_examples
    from palitune.models.adapters.checkpoint import saved_quantization_bits
    from palitune.models.loading import load_combined, load_processor
    from palitune.report.pages.model_card import write_model_card
    from palitune.report.run_writer import create_run_folder, print_checks

    examples = select_parity_examples(run, run.data, run.task, run.evaluation.split)
    adapters = run.adapter_combination(run.adapter)
    processor = load_processor(run.model)

    model = export_settings(run.model, run.dtype)
    network = load_combined(model, adapters, quantized=False)
    references = [greedy_outputs(network, processor, examples, run.max_new_tokens)]
    folder = create_run_folder(run.output_dir, to_yaml(run))
    exported = folder / "model"
    export_merged(network, processor, model, exported, dtype=model.dtype, quantize=run.quantize)
    del network

    bits = saved_quantization_bits(adapters.paths[0])
    if bits:
        network = load_combined(model, adapters, quantized=True)
        references.append(greedy_outputs(network, processor, examples, run.max_new_tokens))
        del network

    parity = measure_parity(exported, processor, examples, references, run, model=model, bits=bits)
    write_model_card(exported, adapters, parity, examples, run)
    report_parity(parity, exported)
    print_checks(serving_notes(adapters))
    if run.onnx:
        print_checks([f"ONNX model, verified against the export: {export_onnx(exported)}"])
    if run.push_to_hub:
        print_checks([upload_folder(exported, run.push_to_hub, private=run.private)])


if __name__ == "__main__":
    export()
