"""Text of a guest on its way to a page or a terminal: escapes, formulas, names, notes."""

from __future__ import annotations

import html
import re

#: C0 characters a terminal acts on beyond line feeds and colours: answerback, bell, charset shifts.
_ACTED_ON = "\x05\x07\x0e\x0f"
#: Their C1 twins (0x9b is CSI, 0x9d OSC, ...): only in text that is not ASCII.
_C1 = tuple("\x84\x85\x8d\x8e\x8f\x90\x98\x9b\x9d\x9e\x9f")
_NO_COLOUR = re.compile(r"\x1b(?!\[[0-9;:]*m)")
_SEQUENCE = re.compile(
    r"(\x1b\[[0-9;:]*m)"  # colours stay
    r"|\x1b\[[0-?]*[ -/]*[@-~]"  # other control sequences
    r"|\x1b[]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # titles, links, clipboard, device strings
    r"|\x1b[ -/]*[0-~]?"
    r"|[\x00-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f]"
)
_UNFINISHED = re.compile(r"\x1b(?:\[[0-9;:]{0,32})?\Z")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]+")

#: TeX commands by which MathJax or KaTeX makes links, attributes, styles, or loads something.
#: ``\text`` in their place shows the first argument (an address, say) as plain text.
_TEX = re.compile(
    r"\\(?:href|url|style|class|cssId|data|require|includegraphics|mmlToken|bbox|special|unicode"
    r"|html(?:Class|Id|Style|Data)|texttip|mathtip|toggle)(?![A-Za-z])"
)
_FORMULA = re.compile(r"\$|\\\(|\\\[|\\begin")
MAX_TEX = 64 * 1024


def clean_terminal(text: str) -> str:
    """``text`` with colours, CR, BS, TAB and LF; every other terminal escape is left out.

    Plain text costs a few ``memchr``: megabytes of output pass here.
    """
    if any(mark in text for mark in _ACTED_ON) or (not text.isascii() and any(c in text for c in _C1)):
        return _SEQUENCE.sub(r"\1", text)
    return _SEQUENCE.sub(r"\1", text) if "\x1b" in text and _NO_COLOUR.search(text) else text


class Terminal:
    """``clean_terminal`` for a stream that comes in pieces: a colour may be cut in two."""

    def __init__(self) -> None:
        self._held: dict[str, str] = {}

    def feed(self, name: str, text: str) -> str:
        """The next piece of stream ``name``, cleaned; an unfinished colour waits for its rest."""
        text = self._held.pop(name, "") + text
        if "\x1b" in text[-34:] and (cut := _UNFINISHED.search(text, max(0, len(text) - 34))):
            self._held[name] = cut[0]
            text = text[: cut.start()]
        return clean_terminal(text)


def clean_tex(text: str) -> str:
    """A formula without commands that make links, attributes or styles, or load packages."""
    return _TEX.sub(r"\\text", text) if "\\" in text else text


def clean_formulas(text: str) -> str:
    """``clean_tex`` where the page would typeset ``text`` as a formula, else unchanged."""
    return clean_tex(text) if "\\" in text and _FORMULA.search(text) else text


def one_line(text: str, length: int) -> str:
    """``text`` as one bounded line without control characters."""
    return _CONTROLS.sub(" ", text[: length * 2])[:length]


def note(text: str) -> str:
    """A short remark of the kernel's own, as HTML, where something was left out."""
    return f'<div style="opacity:.75;font-size:85%">kernel_runtime: {html.escape(text)}</div>'
