"""HTML pages and the model card, rendered from the templates in the folder `assets`."""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palitune.report.images.overlay import palette_css
from palitune.report.text import escape_unprintable

_ASSETS = Path(__file__).parent / "assets"


def write_page(
    file: Path,
    template: str,
    content: Mapping[str, Any],
    *,
    styles: tuple[str, ...] = (),
    script: str = "",
) -> Path:
    """Write a self-contained HTML page that loads nothing from the network; return its path.

    Args:
        file: File to write.
        template: Template that extends `base.html`.
        content: Variables of the template. `title` is required; `facts` (name, text) and
            `sections` (id, name) fill the header.
        styles: CSS files, added to `page.css`.
        script: JavaScript file; empty: none.
    """
    frame = {"folder": file.resolve().parent.name, "facts": (), "sections": ()}
    frame["palette"] = palette_css()
    page = render_template(template, {**frame, **content}, ("page.css", *styles), script)
    file.write_bytes(page.encode("utf-8", "replace"))
    return file


def render_template(
    template: str, context: Mapping[str, Any], styles: tuple[str, ...] = (), script: str = ""
) -> str:
    """Render a template. HTML is escaped, Markdown is not; unprintable characters never remain.

    Args:
        template: File name of the template; its ending decides about escaping.
        context: Variables of the template. A missing variable is an error.
        styles: CSS files, joined in the variable `style`.
        script: JavaScript file, in the variable `script`. The page's content security policy
            allows it by its SHA-256 in `script_hash`.
    """
    import jinja2
    from markupsafe import Markup

    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_ASSETS),
        autoescape=jinja2.select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: escape_unprintable(value) if type(value) is str else value,
    )
    program = _read_asset(script) if script else ""
    digest = hashlib.sha256(program.encode()).digest()
    assets = {
        "style": Markup("\n".join(map(_read_asset, styles))),
        "script": Markup(program),
        "script_hash": base64.b64encode(digest).decode("ascii"),
    }
    page: str = templates.get_template(template).render({"definitions": {}, **context, **assets})
    return page


def _read_asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")
