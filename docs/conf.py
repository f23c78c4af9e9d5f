"""How Sphinx builds these pages; no network, and a warning is an error (``make docs``)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

project = "Reactor"
author = "The Reactor authors"
copyright = author

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "**/README.md"]
source_suffix = {".md": "markdown"}
master_doc = "index"

html_theme = "furo"
html_title = "Reactor"
html_show_sphinx = False
templates_path: list[str] = []
html_static_path: list[str] = []

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
# Types are links only where a page has them; names from the standard library stay text.
nitpicky = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# A dataclass's attributes are documented in its docstring; a second entry would be a warning.
napoleon_use_ivar = True
