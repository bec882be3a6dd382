"""Completion of the command line in bash, zsh and fish."""

from collections.abc import Iterable, Sequence

from palitune.cli.arguments import FLAGS
from palitune.config.catalog import FieldDoc, field_docs, groups, options, recipes
from palitune.config.config_store import default_options
from palitune.config.recipes import GROUPS, RECIPE_CONFIGS
from palitune.errors import ConfigError, unknown_choice

_BASH = """\
# eval "$(palitune completion bash)"
_palitune() {
    local line="${COMP_LINE:0:COMP_POINT}" word found before
    word="${line##* }"
    read -r -a before <<< "${line%"$word"}"
    COMPREPLY=()
    # Bash completes what follows the last "=", which separates words.
    while read -r found; do
        case "$word" in *=*) found="${found#"${word%=*}="}" ;; esac
        [ -n "$found" ] && COMPREPLY+=("$found")
    done < <(palitune completion words "${before[@]:1}" "$word" 2>/dev/null)
    if [ "${#COMPREPLY[@]}" = 1 ]; then
        case "${COMPREPLY[0]}" in *=|*.) compopt -o nospace 2>/dev/null ;; esac
    fi
}
complete -o default -F _palitune palitune"""
_ZSH = """\
#compdef palitune
# eval "$(palitune completion zsh)"
_palitune() {
    local -a found
    found=(${(f)"$(palitune completion words "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    compadd -Q -S '' -- $found || _files
}
compdef _palitune palitune"""
_FISH = """\
# palitune completion fish | source
function __palitune_words
    palitune completion words (commandline -opc)[2..] (commandline -ct) 2>/dev/null
end
complete -c palitune -a '(__palitune_words)'"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
COMMANDS = ("list", "copy", "schema", "completion")


def completion_command(arguments: Sequence[str]) -> str:
    """Return the script of a shell, or what completes the last of the given words."""
    match arguments:
        case ["words", *words]:
            return "\n".join(candidates(words))
        case [shell] if shell in SCRIPTS:
            return SCRIPTS[shell]
        case [shell, *_]:
            raise ConfigError(unknown_choice("shell", shell, list(SCRIPTS)))
    raise ConfigError("palitune completion needs a shell: bash, zsh or fish")


def candidates(words: Sequence[str]) -> list[str]:
    """Return the words that complete the last one; the others are those before it."""
    *before, current = words or [""]
    if not before:
        return _starting_with([*recipes(), *COMMANDS], current)
    name = before[0]
    if name == "list":
        known = groups() if len(before) == 1 else list(options(before[1]))
        return _starting_with(known, current)
    if name in ("copy", "schema"):
        return _starting_with(recipes(), current)
    if name == "completion":
        return _starting_with(SCRIPTS, current)
    if name not in RECIPE_CONFIGS:
        return []
    if current.startswith("-"):
        flags = [word for usage in FLAGS for word in usage.replace(",", "").split()]
        return _starting_with((flag for flag in flags if flag.startswith("-")), current)
    key, has_value, _ = current.partition("=")
    if has_value:
        return _starting_with((f"{key}={value}" for value in _values(name, key, before)), current)
    return _starting_with(_keys(name, current, before), current)


def _keys(recipe: str, current: str, before: Sequence[str]) -> list[str]:
    """Return groups and settings of a recipe; settings of a group once it is written."""
    group, dot, _ = current.partition(".")
    if dot and group in GROUPS:
        return [f"{group}.{doc.name}=" for doc in _group_docs(recipe, group, before)]
    choices = default_options(RECIPE_CONFIGS[recipe])
    own = [doc.name for doc in field_docs(RECIPE_CONFIGS[recipe]) if doc.name not in choices]
    named = [group for group in groups() if group in choices]
    return [f"{name}=" for name in [*named, *own]] + [f"{group}." for group in named]


def _values(recipe: str, key: str, before: Sequence[str]) -> list[str]:
    """Return the options of a group, or the members of a setting with few values."""
    if key in groups():
        names = options(key)
        return [*names, *(name.rpartition("/")[2] for name in names if "/" in name)]
    group, dot, name = key.partition(".")
    docs = _group_docs(recipe, group, before) if dot else field_docs(RECIPE_CONFIGS[recipe])
    for doc in docs:
        if doc.name == (name if dot else key):
            return ["true", "false"] if doc.type == "bool" else _members(doc.type)
    return []


def _members(type_text: str) -> list[str]:
    """Return the members of an enum as written by `field_docs`, without types such as `int`."""
    members = [each.strip() for each in type_text.split("|")]
    plain = {"int", "float", "str", "null", "Any"}
    return [] if plain & set(members) or not all(map(str.isidentifier, members)) else members


def _group_docs(recipe: str, group: str, before: Sequence[str]) -> list[FieldDoc]:
    """Return the settings of the option that is written before, or of the default."""
    written = [word.partition("=")[2] for word in before if word.startswith(f"{group}=")]
    option = written[-1] if written else default_options(RECIPE_CONFIGS[recipe]).get(group, "")
    schemas = GROUPS.get(group, {})
    schema = schemas.get(option) or next(iter(schemas.values()), None)
    return field_docs(schema) if schema else []


def _starting_with(words: Iterable[str], start: str) -> list[str]:
    return sorted({word for word in words if word.startswith(start)})
