"""What handlers of one session are made with."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kernel_runtime.broker.commons import Commons
    from kernel_runtime.broker.flow import Carry
    from kernel_runtime.broker.gate import Gate
    from kernel_runtime.broker.log import Logs
    from kernel_runtime.broker.secrets import Secrets
    from kernel_runtime.capabilities.powers import Powers
    from kernel_runtime.domain.disclosed import Disclosed
    from kernel_runtime.domain.journey import Journey
    from kernel_runtime.domain.manifest import Manifest
    from kernel_runtime.ports import Broker
    from kernel_runtime.state import State


@dataclass(frozen=True, kw_only=True)
class Context:
    """What handlers of one session are made with. ``secrets`` opens granted ones, and keeps them out of outputs;
    ``space``: under what an app's things are kept, apart from all others'; ``journey``: which calls led to it;
    ``broker_for`` puts together the broker of an app that this one calls; ``carry``: before bytes move over the network
    in its name."""

    state: State
    gate: Gate
    disclosed: Disclosed
    secrets: Secrets
    logs: Logs
    commons: Commons
    journey: Journey
    powers: Powers
    broker_for: Callable[[Powers, Disclosed, Commons, Journey, Carry], Broker]
    carry: Carry
    space: str = ""
    directory: str = ""
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @property
    def manifest(self) -> Manifest:
        return self.gate.manifest
