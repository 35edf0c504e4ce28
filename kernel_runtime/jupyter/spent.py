"""What calls of capabilities came to, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernel_runtime.domain.amounts import show_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kernel_runtime.broker.broker import Use


def in_session(usage: Mapping[str, Use]) -> str:
    """Of each capability that was called in this session so far; empty where none was."""
    if not usage:
        return ""
    counts = (
        f"{name} {'once' if use.calls == 1 else f'{use.calls} times'} ({', '.join(_came(use))})"
        for name, use in sorted(usage.items())
    )
    return f"called in this session: {'; '.join(counts)}"


def _came(use: Use) -> Iterator[str]:
    yield f"{use.seconds:.1f} s"
    if use.bytes:
        yield show_bytes(use.bytes)
    for count, what in ((use.denied, "denied"), (use.errors, "failed"), (use.running, "under way")):
        if count:
            yield f"{count} {what}"
