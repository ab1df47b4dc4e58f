"""Sphinx settings: Markdown pages, numpydoc docstrings, one API page a module."""

from __future__ import annotations

from importlib.metadata import version as installed_version

project = "melotte"
author = "the melotte developers"
copyright = f"2026, {author}"
release = installed_version("melotte")
version = release

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_default_options = {"ignore-module-all": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_param = False

html_theme = "furo"
html_title = f"melotte {release}"
html_static_path = []
html_show_copyright = False
