"""Structured log records: a message, a level, and fields; the owner sees them in ``%logs``.

    from kernel_runtime.sdk import log

    log.info("loaded", rows=len(table))
    logging.getLogger().addHandler(log.LogHandler())   # what libraries log goes there, too

No grant is needed.
"""

from __future__ import annotations

import logging
from typing import Any

from kernel_runtime.sdk.door import Ask, both, nothing, waited

__all__ = [
    *("LogHandler", "acritical", "adebug", "aerror", "ainfo", "awarning"),
    *("critical", "debug", "error", "info", "warning"),
]


def __dir__() -> list[str]:
    return __all__


def _write(level: str, message: object, fields: dict[str, Any]) -> Ask[None]:
    shown = {name: _plain(value) for name, value in fields.items()}
    return Ask("log", "write", {"level": level, "message": str(message), "fields": shown}, nothing)


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


def _debug(message: object, **fields: Any) -> Ask[None]:
    """What helps to find a fault."""
    return _write("debug", message, fields)


def _info(message: object, **fields: Any) -> Ask[None]:
    """What happened as it should."""
    return _write("info", message, fields)


def _warning(message: object, **fields: Any) -> Ask[None]:
    """What somebody should look at."""
    return _write("warning", message, fields)


def _error(message: object, **fields: Any) -> Ask[None]:
    """What failed."""
    return _write("error", message, fields)


def _critical(message: object, **fields: Any) -> Ask[None]:
    """What makes it impossible to go on."""
    return _write("critical", message, fields)


debug, adebug = both(_debug)
info, ainfo = both(_info)
warning, awarning = both(_warning)
error, aerror = both(_error)
critical, acritical = both(_critical)


class LogHandler(logging.Handler):
    """A handler for Python's ``logging``."""

    def emit(self, record: logging.LogRecord) -> None:
        """Pass it on; what goes wrong meanwhile is ``logging``'s to show."""
        try:
            level = record.levelname.lower()
            known = level if level in ("debug", "info", "warning", "error", "critical") else "info"
            waited(_write(known, self.format(record), {"logger": record.name}))
        except Exception:  # noqa: BLE001 - as logging has it
            self.handleError(record)
