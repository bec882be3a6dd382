"""The templates of all pages, and the styles and scripts that are put into them."""

import base64
import hashlib
from pathlib import Path
from typing import Any

from palitune.report.images.drawing import escape_unprintable

_ASSETS = Path(__file__).parent / "assets"


def render_template(
    template: str, context: dict[str, Any], styles: tuple[str, ...], script: str = ""
) -> str:
    """Fill in a template of the folder `assets`.

    It gets `style`, the files `styles` one after the other, and of the file `script` its text and
    `script_hash`, by which the page's policy lets it run. Texts are escaped; what cannot be printed
    is replaced.
    """
    import jinja2
    from markupsafe import Markup

    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_ASSETS),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: escape_unprintable(value) if type(value) is str else value,
    )
    program = _read_text(script) if script else ""
    digest = hashlib.sha256(program.encode()).digest()
    page: str = templates.get_template(template).render(
        context
        | {
            "style": Markup("\n".join(map(_read_text, styles))),
            "script": Markup(program),
            "script_hash": base64.b64encode(digest).decode("ascii"),
        }
    )
    return page


def _read_text(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")
