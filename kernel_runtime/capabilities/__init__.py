"""What a session's guest may ask for: its broker, put together when the guest first asks.

Until then nothing is read and no database opened: a session that asks for nothing pays nothing.
"""

from __future__ import annotations

from kernel_runtime.capabilities.broker import SessionBroker, broker_for
from kernel_runtime.capabilities.handlers import HANDLERS
from kernel_runtime.capabilities.powers import Powers

__all__ = ["HANDLERS", "Powers", "SessionBroker", "broker_for"]
