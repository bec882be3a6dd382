"""Merge an adapter (adapter.path=FOLDER), or several, into its base, for plain transformers."""

from palitune.cli.recipe import recipe
from palitune.config.recipes import Export
from palitune.config.to_yaml import to_yaml


@recipe(Export)
def export(run: Export) -> None:
    from palitune.export.export_model import (
        export_merged,
        export_settings,
        save_combination,
        serving_notes,
    )
    from palitune.export.greedy_outputs import greedy_outputs, other_references
    from palitune.export.hub import upload_folder
    from palitune.export.onnx.demo import write_demo
    from palitune.export.onnx.export import export_onnx
    from palitune.export.parity import measure_parity, report_parity
    from palitune.export.samples import select_parity_examples
    from palitune.models.adapters.checkpoint import saved_quantization_bits
    from palitune.models.loading import load_combined, load_processor
    from palitune.report.pages.model_card import write_model_card
    from palitune.report.run_writer import create_run_folder, print_checks

    examples = select_parity_examples(run, run.data, run.task, run.evaluation.split)
    adapters = run.adapter_combination(run.adapter, run.seed)
    processor = load_processor(run.model)

    model = export_settings(run.model, run.dtype)
    network = load_combined(model, adapters, quantized=False)
    references = {"merged": greedy_outputs(network, processor, examples, run.max_new_tokens)}
    folder = create_run_folder(run.output_dir, to_yaml(run))
    exported = folder / "model"
    reduction = save_combination(network, adapters, model, folder / "adapter")
    export_merged(network, processor, model, exported, dtype=model.dtype, quantize=run.quantize)
    del network

    bits = saved_quantization_bits(adapters.paths[0])
    references |= other_references(model, adapters, processor, examples, run.max_new_tokens, bits)

    parity = measure_parity(exported, processor, examples, references, run, model, bits, reduction)
    write_model_card(exported, adapters, parity, examples, run)
    report_parity(parity, exported)
    print_checks(serving_notes(adapters, folder / "adapter"))
    if run.onnx:
        onnx = export_onnx(exported, processor, examples, references["merged"], run)
        print_checks(onnx.summary_lines())
        write_model_card(exported, adapters, parity, examples, run, onnx)
    if run.demo:
        page = write_demo(folder, folder.name, examples[0].prefix, run.max_new_tokens)
        print_checks([f"page: {page}; serve it by python -m http.server --directory {folder}"])
    if run.push_to_hub:
        print_checks([upload_folder(exported, run.push_to_hub, private=run.private)])


if __name__ == "__main__":
    export()
