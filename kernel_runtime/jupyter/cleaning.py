"""Guest displays made fit for a page that is not the guest's own.

The page of a notebook stands next to a server that can open terminals: script in an output
would be the shortest way out, a remote image the shortest way to leak. Pictures and text pass;
HTML and Markdown are sanitised; everything that runs code in the page is left out.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

#: Mime types that draw without running or fetching anything.
PASSED = frozenset(
    {"text/plain", "text/latex", "application/json", "image/png", "image/jpeg", "image/gif", "image/webp"}
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TAGS = _words(
    "a abbr b blockquote br caption center code col colgroup dd del details div dl dt em figcaption figure "
    "h1 h2 h3 h4 h5 h6 hr i img ins kbd li mark ol p pre q s samp small span strong sub summary sup "
    "table tbody td tfoot th thead tr tt u ul var"
)
_ATTRIBUTES = _words(
    "align alt border class colspan dir height href lang rowspan scope src style title valign width"
)


def clean_bundle(data: dict[str, Any]) -> dict[str, Any]:
    """A mime bundle with what may pass; Markdown becomes sanitised HTML."""
    passed = {mime: value for mime, value in data.items() if mime in PASSED}
    if isinstance(data.get("text/html"), str):
        passed["text/html"] = clean_html(data["text/html"])
    elif isinstance(data.get("text/markdown"), str):
        passed["text/html"] = clean_html(_html_of_markdown(data["text/markdown"]))
    return passed


def clean_html(html: str) -> str:
    """``html`` without script, handlers, forms, frames, style sheets and remote addresses."""
    return str(_cleaner()(html))


@cache
def _cleaner() -> Callable[[str], str]:
    from bleach.css_sanitizer import ALLOWED_CSS_PROPERTIES, CSSSanitizer
    from bleach.sanitizer import Cleaner

    styles = CSSSanitizer(allowed_css_properties=ALLOWED_CSS_PROPERTIES - {"cursor"})
    cleaner = Cleaner(
        tags=_TAGS,
        attributes=_attribute_passes,
        protocols={"data", "https", "http", "mailto"},
        css_sanitizer=styles,
        strip=True,
    )
    clean: Callable[[str], str] = cleaner.clean
    return lambda html: clean(_without_blocks(html))


def _attribute_passes(tag: str, name: str, value: str) -> bool:
    """A picture may come from the output itself only; a link may lead out: it is clicked on purpose."""
    if name == "src":
        return tag == "img" and value.startswith("data:image/") and not value.startswith("data:image/svg")
    if name == "href":
        return tag == "a" and value.startswith(("https://", "http://", "mailto:", "#"))
    return name in _ATTRIBUTES


def _without_blocks(html: str) -> str:
    """Cut ``<style>`` and ``<script>`` with what is in them: the sanitiser would leave it as text."""
    import re

    return re.sub(r"<(style|script)\b.*?</\1\s*>", "", html, flags=re.DOTALL | re.IGNORECASE)


def _html_of_markdown(text: str) -> str:
    from nbconvert.filters.markdown_mistune import markdown2html_mistune

    return str(markdown2html_mistune(text))
