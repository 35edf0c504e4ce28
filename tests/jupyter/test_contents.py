"""What a guest may publish: shapes and lengths."""

from __future__ import annotations

import msgspec
import pytest

from kernel_runtime.domain.errors import ProtocolViolation
from kernel_runtime.jupyter.contents import read_published


@pytest.mark.parametrize("name", ["comm_id", "target_name"])
def test_ids_of_comms_are_short(name: str) -> None:
    """They are remembered for as long as the comm is open, which the guest decides."""
    content = {"comm_id": "a", "target_name": "b"}
    read_published("comm_open", msgspec.json.encode(content))
    with pytest.raises(ProtocolViolation, match="256"):
        read_published("comm_open", msgspec.json.encode(content | {name: "x" * 1000}))
