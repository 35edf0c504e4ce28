"""Sphinx configuration; the notebooks are shown with the outputs they were committed with."""

from __future__ import annotations

from kernel_runtime import __version__

project = "kernel_runtime"
author = "kernel_runtime contributors"
copyright = "2026, kernel_runtime contributors"
release = version = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
exclude_patterns = ["_build", "jupyter_execute", "**.ipynb_checkpoints"]
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # they run under nbval; a build of the docs runs no code
# Outputs of cells are drawn as they are: tracebacks with a message in Markdown are not quite IPython's.
suppress_warnings = ["mystnb.unknown_mime_type", "myst.xref_missing", "misc.highlighting_failure"]

autodoc_typehints = "description"
autodoc_member_order = "bysource"

html_theme = "furo"
html_title = "kernel_runtime"
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#2e86ab", "color-brand-content": "#2e86ab"}
}
