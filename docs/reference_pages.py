"""Reference pages that are written from the code, so that they cannot differ from it."""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import get_type_hints

from error_sentences import error_sentences_page

from palitune import errors
from palitune.config import catalog
from palitune.config.config_store import default_options
from palitune.config.recipes import GROUPS, RECIPE_CONFIGS
from palitune.data.registry import SOURCES
from palitune.metrics import METRICS
from palitune.report.metric_descriptions import describe_metric
from palitune.tasks import TASKS


def write_all(folder: Path) -> None:
    """Write every page into the folder; files that have not changed stay as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in PAGES.items():
        text = make()
        file = folder / f"{name}.md"
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")


def recipes_page() -> str:
    """Every recipe with its own settings and its groups."""
    parts = ["# Recipes\n\n`palitune RECIPE key=value …` runs one.\n"]
    for name, summary in catalog.recipes().items():
        schema = RECIPE_CONFIGS[name]
        groups = default_options(schema)
        own = [doc for doc in catalog.field_docs(schema) if doc.name not in groups]
        parts.append(f"## {name}\n\n{summary}\n\n{_settings_table('', own)}")
        if groups:
            chosen = ", ".join(f"`{group}={option or '...'}`" for group, option in groups.items())
            parts.append(f"Groups and their defaults: {chosen}.\n")
    return "\n".join(parts)


def settings_page() -> str:
    """Every option of every group with its settings."""
    parts = ["# Groups, options and settings\n\n`group=option` chooses, `group.key=value` sets.\n"]
    for group in catalog.groups():
        if group == "experiment":
            continue
        parts.append(f"## {group}\n")
        schemas = GROUPS.get(group, {})
        for option, file in catalog.options(group).items():
            parts.append(f"### {group}={option}\n\n{catalog.summary_line(file)}\n")
            if option in schemas:
                parts.append(_settings_table(f"{group}.", catalog.field_docs(schemas[option])))
                parts.extend(_nested_tables(group, schemas[option]))
            else:
                parts.append(f"```yaml\n{file.read_text(encoding='utf-8').rstrip()}\n```\n")
    return "\n".join(parts)


def _nested_tables(prefix: str, schema: type) -> Iterable[str]:
    """Tables of the fields that are dataclasses themselves, such as `data.frames`."""
    for name, hint in get_type_hints(schema).items():
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            yield _settings_table(f"{prefix}.{name}.", catalog.field_docs(hint))


def experiments_page() -> str:
    """Every experiment by folder."""
    rows: dict[str, list[str]] = {}
    for option, file in catalog.options("experiment").items():
        folder, _, name = option.rpartition("/")
        line = f"| `{name}` | {_cell(catalog.summary_line(file))} |"
        rows.setdefault(folder, []).append(line)
    parts = ["# Experiments\n\n`palitune finetune experiment=NAME --cfg job` prints one whole.\n"]
    for folder, lines in rows.items():
        table = "\n".join(["| experiment | what it is |", "|---|---|", *lines])
        parts.append(f"## {folder or 'general'}\n\n{table}\n")
    return "\n".join(parts)


def tasks_page() -> str:
    """Every task with its settings."""
    parts = ["# Tasks\n\n`task=NAME` chooses how a row becomes a prompt and an answer.\n"]
    for name in TASKS:
        summary = catalog.summary_line(catalog.options("task")[name])
        metrics = ", ".join(f"`{metric}`" for metric in TASKS[name]().metrics)
        parts.append(f"## {name}\n\n{summary}\n\nMetrics unless others are named: {metrics}.\n")
    parts.append("Settings: {doc}`settings`.\n")
    return "\n".join(parts)


def formats_page() -> str:
    """Every data format with its settings."""
    lines = [
        f"| `data={name}` | {_cell(catalog.summary_line(catalog.options('data')[name]))} |"
        for name in SOURCES
    ]
    table = "\n".join(["| option | what it reads |", "|---|---|", *lines])
    return f"# Data formats\n\n{table}\n\nSettings: {{doc}}`settings`.\n"


def metrics_page() -> str:
    """Every metric with its definition, from the docstring of its module."""
    lines = [f"| `{name}` | {_cell(describe_metric(name))} |" for name in sorted(METRICS)]
    table = "\n".join(["| metric | definition and source |", "|---|---|", *lines])
    return (
        f"# Metrics\n\n`task.metrics=[NAME,...]` chooses. A name contains the variant.\n\n{table}\n"
    )


def errors_page() -> str:
    """Exit codes and the kinds of errors."""
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type)
        and issubclass(kind, Exception)
        and not kind.__name__.startswith("_")
    ]
    lines = [f"| `{k.__name__}` | {_cell(_paragraphs(k.__doc__ or ''))} |" for k in kinds]
    table = "\n".join(["| error | when |", "|---|---|", *lines])
    return (
        "# Errors and exit codes\n\nAn error is one sentence on stderr: what is wrong, where, and "
        "what to set. The program ends with one of these codes:\n\n"
        f"{_exit_codes()}\n\nAll sentences: {{doc}}`error_sentences`. The same errors are "
        f"raised by the Python functions:\n\n{table}\n"
    )


def _exit_codes() -> str:
    meanings = {
        0: "done",
        errors.FAILED: "a failed run or check: data, model, metric or training",
        errors.USAGE_ERROR: "an invalid command line or configuration; nothing was written",
        errors.PREEMPTED: "ended by SIGTERM after a checkpoint; the same command with "
        "`training.resume=auto` continues",
        errors.INTERRUPTED: "Ctrl-C",
        errors.CLOSED_PIPE: "the reader of the output has ended",
    }
    rows = [f"| {code} | {meaning} |" for code, meaning in meanings.items()]
    return "\n".join(["| code | meaning |", "|---|---|", *rows])


def _settings_table(prefix: str, docs: Iterable[catalog.FieldDoc]) -> str:
    """Two columns, because a phone shows no more."""
    lines = []
    for doc in docs:
        text = f"{doc.description} ({doc.range})" if doc.range else doc.description
        default = f"default {_code(doc.default)}" if doc.default else "required"
        name = f"`{prefix}{doc.name}`<br>{_code(doc.type)}, {default}"
        lines.append(f"| {name} | {_cell(text)} |")
    if not lines:
        return "No settings.\n"
    return "\n".join(["| setting | meaning |", "|---|---|", *lines]) + "\n"


def _code(text: str) -> str:
    return f"`{_cell(text)}`" if text else ""


def _cell(text: str) -> str:
    """One line of a Markdown table."""
    return " ".join(text.split()).replace("|", r"\|")


def _paragraphs(text: str) -> str:
    """Docstring text without the sections of its arguments."""
    kept = text.split("\n\n    Args:")[0].split("\nArgs:")[0]
    return "\n".join(line.strip() for line in kept.splitlines()).strip()


PAGES: dict[str, Callable[[], str]] = {
    "recipes": recipes_page,
    "settings": settings_page,
    "experiments": experiments_page,
    "tasks": tasks_page,
    "formats": formats_page,
    "metrics": metrics_page,
    "errors": errors_page,
    "error_sentences": error_sentences_page,
}
