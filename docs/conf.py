"""Configuration of the documentation site (Sphinx); `scripts/docs` builds it."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]

import notebook_page  # noqa: E402
import reference_pages  # noqa: E402

from palitune import __version__  # noqa: E402

project = "Palitune"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_extra_path = ["llms.txt"]
html_theme = "furo"
html_title = f"Palitune {__version__}"
html_copy_source = False
html_show_copyright = False
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
autodoc_typehints = "description"
autodoc_member_order = "bysource"
nitpicky = False

reference_pages.write_all(HERE / "reference" / "generated")
notebook_page.write_page(
    HERE / "notebooks" / "quickstart.ipynb", HERE / "notebooks" / "generated" / "quickstart.md"
)
