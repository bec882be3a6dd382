"""The page of all error sentences, read from the source code."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import palitune
from palitune import errors

ROOT = Path(palitune.__file__).parent
SETTINGS_ERROR = "ValueError"
"""Raised by the checks of settings; the program turns it into a ConfigError."""


def error_sentences_page() -> str:
    """Every sentence by exit code and package; `…` stands for a value."""
    parts = [
        "# Error sentences\n\nAll sentences by exit code and by the package that raises them; `…` "
        "stands for a name, a value or a place. {doc}`errors` describes the kinds.\n"
    ]
    by_code = {errors.USAGE_ERROR: "the command line or a setting", errors.FAILED: "a failed run"}
    for code, meaning in by_code.items():
        parts.append(f"## Exit code {code}: {meaning}\n")
        for package, sentences in _by_package(code).items():
            lines = "\n".join(f"- {sentence}" for sentence in sentences)
            parts.append(f"### {package}\n\n{lines}\n")
    return "\n".join(parts)


def _by_package(code: int) -> dict[str, list[str]]:
    """Sentences of each package, sorted, each once."""
    trees = {file: ast.parse(file.read_text("utf-8")) for file in sorted(ROOT.rglob("*.py"))}
    functions = {
        node.name: node
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }
    found: dict[str, set[str]] = {}
    for file, tree in trees.items():
        package = file.relative_to(ROOT).parts[0].removesuffix(".py")
        for kind, sentence in _sentences(tree, functions):
            if (errors.USAGE_ERROR if _is_usage(kind) else errors.FAILED) == code:
                found.setdefault(package, set()).add(_escaped(sentence))
    return {package: sorted(sentences, key=str.lower) for package, sentences in found.items()}


def _sentences(
    tree: ast.Module, functions: Mapping[str, ast.FunctionDef]
) -> Iterator[tuple[str, str]]:
    """Yield the class and the text of each error of a module that is made from a literal.

    The text may also be what a function returns.
    """
    for scope, call in _calls(tree, ""):
        if not isinstance(call.func, ast.Name) or not call.args:
            continue
        kind, is_check = call.func.id, scope == "__post_init__" or "check" in scope
        if _is_own(kind) or (kind == SETTINGS_ERROR and is_check):
            for value in _returned(call.args[0], functions):
                yield from ((kind, text) for text in _texts(value))


def _calls(node: ast.AST, scope: str) -> Iterator[tuple[str, ast.Call]]:
    """Yield every call with the name of the function that it stands in."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            yield scope, child
        inner = child.name if isinstance(child, ast.FunctionDef) else scope
        yield from _calls(child, inner)


def _returned(node: ast.expr, functions: Mapping[str, ast.FunctionDef]) -> Iterator[ast.expr]:
    """Yield an expression, or the values of the function that it calls."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        called = functions.get(node.func.id)
        for each in ast.walk(called) if called else ():
            if isinstance(each, ast.Return) and each.value is not None:
                yield each.value
    else:
        yield node


def _texts(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        parts = [p.value if isinstance(p, ast.Constant) else "…" for p in node.values]
        yield "".join(str(part) for part in parts)
    elif isinstance(node, ast.IfExp):
        yield from (*_texts(node.body), *_texts(node.orelse))


def _is_own(kind: str) -> bool:
    return isinstance(getattr(errors, kind, None), type)


def _is_usage(kind: str) -> bool:
    return kind in (SETTINGS_ERROR, errors.ConfigError.__name__)


def _escaped(text: str) -> str:
    """A text without the marks of Markdown."""
    for mark in "\\`*_[]<>{}#$|":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
