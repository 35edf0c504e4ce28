"""What it costs to look for secrets in what a guest prints."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks.bars import CONTROL
from benchmarks.figures import OURS, Reading, Spec
from benchmarks.registry import benchmark
from kernel_runtime.domain.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.scale import Scale

SECRETS = 20
PLAIN = "a line of ordinary output, with numbers 1 2 3 and words\n"
ESCAPED = '{"a": "line of \\"JSON\\"", "with": "100%", "and": "C:\\\\paths"}\n'


@benchmark(
    "redaction",
    Spec(name="redaction.plain", what=f"bytes a second of plain output, {SECRETS} secrets", unit="/s"),
    Spec(name="redaction.escaped", what="bytes a second of output full of escapes, likewise", unit="/s"),
)
def redaction(scale: Scale) -> Iterator[Reading]:
    """Texts without a secret: what nearly all are. The peer looks for the values as they are, only."""
    values = [(f"KEY_{n}", f"{n:02}-s3cr3t/value+{n * 7919}".encode()) for n in range(SECRETS)]
    redactor = Redactor(values)
    for _ in range(scale.rounds):
        for name, line in (("redaction.plain", PLAIN), ("redaction.escaped", ESCAPED)):
            text = line * max(1, scale.characters // 10 // len(line))
            begun = time.perf_counter()
            redactor.text(text)
            yield Reading(name, OURS, len(text) / (time.perf_counter() - begun))
            begun = time.perf_counter()
            for _, value in values:
                text.replace(value.decode(), "")
            yield Reading(name, CONTROL, len(text) / (time.perf_counter() - begun))
