"""Interactive HTML of a guest: a document of its own, in a frame without origin and network.

Two frames, one in the other, both sandboxed with scripts only (no origin, no windows, no forms,
no navigation of the page). The outer one's policy has ``frame-src 'none'``: wherever the inner
one sends itself (a link, ``location``, a refresh) is refused by its parent's policy. Frames made
by ``srcdoc`` inherit the policies around them, so nothing inside can loosen them.

WebRTC knows no such policy: browsers ignore ``webrtc 'block'`` in a ``<meta>``. So the frame's
first script, the guard, takes WebRTC away, and scripts run only where it ran before: each begins
with a call of a name that the guard defines, and the policy lists scripts by their hash. A frame
that the guest makes inside of its own has no guard, so no script runs there.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from urllib.parse import unquote_to_bytes

from kernel_runtime.jupyter.page_hosts import is_granted

MAX_BYTES = 24 * 1024 * 1024
HEIGHT, MIN_HEIGHT, MAX_HEIGHT = 480, 40, 4000
SANDBOX = "allow-scripts"
_POLICY = (
    "default-src 'none'; script-src {0} 'unsafe-eval'{1}; style-src 'unsafe-inline'{1}; img-src data: blob:{1}; "
    "font-src data: blob:{1}; media-src data: blob:{1}; connect-src{1}; frame-src 'none'; child-src 'none'; "
    "worker-src 'none'; object-src 'none'; manifest-src 'none'; form-action 'none'; base-uri 'none'; webrtc 'block'"
)
_GUARD = (
    "(()=>{{for(const n of Object.getOwnPropertyNames(window))if(/RTC|^WebTransport/.test(n))delete window[n];"
    "Object.defineProperty(window,'{0}',{{value(){{}}}});"
    # attributes like onclick are no scripts the policy can list: they become listeners here
    "document.addEventListener('DOMContentLoaded',()=>{{for(const e of document.querySelectorAll('*'))"
    "for(const a of e.attributes)if(a.name.startsWith('on'))"
    "try{{e[a.name]=new Function('event',a.value)}}catch(_){{}}}})}})()"
)
_SCRIPT_START = re.compile(r"<script\b([^>]*)>", re.IGNORECASE)
_SCRIPT_END = re.compile(r"</script\s*>", re.IGNORECASE)
_TYPE = re.compile(r"\btype\s*=\s*[\"']?([^\"'\s>]*)", re.IGNORECASE)
_SRC = re.compile(r"\bsrc\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s>]+))", re.IGNORECASE)
_RUNS = frozenset({"", "text/javascript", "application/javascript", "module"})
_WHOLE = re.compile(r"\s*(?:<!--.{0,1000}?-->\s*)*<(?:!doctype\s+html|html)\b", re.IGNORECASE | re.DOTALL)
_HEIGHT_NAMED = re.compile(r"<html\b[^>]*\bdata-frame-height=[\"']?(\d{1,5})", re.IGNORECASE)
_HEAD = '<!doctype html><meta charset="utf-8">'
_OURS = re.compile(
    re.escape(_HEAD) + r'<meta http-equiv="Content-Security-Policy" content="[^"]*">'
    r'<body style="margin:0"><iframe sandbox="allow-scripts" [^>]*? srcdoc="([^"]*)"></iframe>'
)
_OURS_INSIDE = re.compile(
    re.escape(_HEAD) + r'<meta http-equiv="Content-Security-Policy" content="[^"]*">'
    r"<script>[^<]*'(kr_[0-9a-f]{24})'[^<]*</script>"
)


def is_document(text: str) -> bool:
    """Whether ``text`` is a whole HTML document: such a one is framed, a fragment is sanitised."""
    return _WHOLE.match(text, 0, 4096) is not None


def frame(document: str, height: object = None, hosts: frozenset[str] = frozenset()) -> str:
    """``document`` as an element for the page; ``height`` in CSS pixels, bounded: given, or
    ``<html data-frame-height="…">``."""
    if height is None and (named := _HEIGHT_NAMED.search(document, 0, 4096)):
        height = int(named[1])
    pixels = height if isinstance(height, int) and not isinstance(height, bool) else HEIGHT
    pixels = min(max(pixels, MIN_HEIGHT), MAX_HEIGHT)
    return (
        f'<iframe sandbox="{SANDBOX}" referrerpolicy="no-referrer" width="100%" height="{pixels}" '
        f'style="border:0" srcdoc="{html.escape(outer(document, hosts))}"></iframe>'
    )


def outer(document: str, hosts: frozenset[str] = frozenset()) -> str:
    """The outer frame's document. A document made here before comes out as it went in.

    Of ``hosts`` it may load what it likes, scripts included: those run without the guard.
    """
    document = original(document)
    name = "kr_" + hashlib.sha256(document.encode("utf-8", "replace")).hexdigest()[:24]
    guard = _GUARD.format(name)
    hashes = [_hash(guard)]
    body = _guard_scripts(document, name, hashes, hosts)
    policy = _POLICY.format(" ".join(dict.fromkeys(hashes)), _sources(hosts))
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    inner = f"{_HEAD}{meta}<script>{guard}</script>{body}"
    return (
        f'{_HEAD}{meta}<body style="margin:0"><iframe sandbox="{SANDBOX}" '
        'style="border:0;display:block;width:100%;height:100vh" '
        f'srcdoc="{html.escape(inner)}"></iframe>'
    )


def original(document: str) -> str:
    """What a guest sent, out of a document that ``outer`` made; any other is returned as it is."""
    found = _OURS.fullmatch(document)
    if found is None:
        return document
    inner = html.unescape(found[1])
    head = _OURS_INSIDE.match(inner)
    return document if head is None else inner[head.end() :].replace(f"{head[1]}();\n", "")


def hashes_of(page: str) -> list[str]:
    """The script hashes in the frames of a page, for the policy of that page."""
    return sorted(set(re.findall(r"sha256-[A-Za-z0-9+/]{43}=", page)))


def _sources(hosts: frozenset[str]) -> str:
    return "".join(f" https://{host} http://{host}" for host in sorted(hosts))


def _guard_scripts(document: str, name: str, hashes: list[str], hosts: frozenset[str]) -> str:
    """Each script with the guard's name before it; one this does not see has no hash and does not run."""
    parts, at = [], 0
    last = document.rfind(">") + 1  # no tag ends behind it: looking on would cost the square of many starts
    while (start := _SCRIPT_START.search(document, at, last)) and (
        end := _SCRIPT_END.search(document, start.end())
    ):
        parts.append(document[at : start.start()])
        parts.append(_guarded(start[1], document[start.end() : end.start()], name, hashes, hosts))
        at = end.end()
    return "".join([*parts, document[at:]])


def _guarded(attributes: str, code: str, name: str, hashes: list[str], hosts: frozenset[str]) -> str:
    """A script that needs the guard; one of an address runs only if it is in the document itself."""
    kind = _TYPE.search(attributes)
    if kind is not None and kind[1].lower() not in _RUNS:
        return f"<script{attributes}>{code}</script>"
    source = _SRC.search(attributes)
    if source is not None:
        address = source[1] or source[2] or source[3] or ""
        if is_granted(_unescaped(address), hosts):
            return f"<script{attributes}></script>"
        code = _inline(address)
        attributes = attributes[: source.start()] + attributes[source.end() :]
    code = f"{name}();\n{_as_parsed(code)}"
    hashes.append(_hash(code))
    return f"<script{attributes}>{code}</script>"


def _unescaped(address: str) -> str:
    try:
        return html.unescape(address)
    except ValueError:  # a reference of thousands of digits
        return ""


def _as_parsed(code: str) -> str:
    """Line ends as the browser's parser makes them: the hash is of what it reads."""
    return code.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")


def _inline(address: str) -> str:
    head, comma, data = _unescaped(address).partition(",")
    if not comma or not head.lower().startswith("data:"):
        return ""
    try:
        raw = base64.b64decode(data) if head.lower().endswith(";base64") else unquote_to_bytes(data)
    except ValueError:
        return ""
    code = raw.decode("utf-8", "replace")
    return "" if "</script" in code.lower() else code


def _hash(code: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode('utf-8', 'replace')).digest()).decode()}'"
