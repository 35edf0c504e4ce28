"""The schema, step by step; a step that was released is never changed."""

from __future__ import annotations

_AUDIT = """
CREATE TABLE audit (
    number INTEGER PRIMARY KEY, at REAL NOT NULL, event TEXT NOT NULL, principal TEXT NOT NULL,
    tenant TEXT NOT NULL, app TEXT NOT NULL, version TEXT NOT NULL, capability TEXT NOT NULL,
    resource TEXT NOT NULL, decision TEXT NOT NULL, rule TEXT NOT NULL, reason TEXT NOT NULL,
    bytes INTEGER NOT NULL, duration REAL NOT NULL, of INTEGER NOT NULL,
    previous TEXT NOT NULL, hash TEXT NOT NULL
)
"""
_HEAD = """
CREATE TABLE audit_head (one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER NOT NULL,
    hash TEXT NOT NULL, latest REAL NOT NULL)
"""
_SEGMENTS = """
CREATE TABLE audit_segments (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, hash TEXT NOT NULL,
    file TEXT NOT NULL)
"""
#: Against accidents and bugs; who writes the file itself is told by the chain.
_ONLY_APPENDED = """
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN SELECT raise(ABORT, 'audit records are not changed'); END
"""
_ONLY_ARCHIVED = """
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
WHEN OLD.number > (SELECT coalesce(max(last), 0) FROM audit_segments)
BEGIN SELECT raise(ABORT, 'audit records are not deleted before they are archived'); END
"""
_COUNTERS = """
CREATE TABLE counters (key TEXT PRIMARY KEY, period INTEGER NOT NULL, calls INTEGER NOT NULL,
    bytes INTEGER NOT NULL, tokens REAL NOT NULL, at REAL NOT NULL) WITHOUT ROWID
"""
_SECRETS = """
CREATE TABLE secrets (name TEXT NOT NULL, version INTEGER NOT NULL, key TEXT NOT NULL,
    wrapped BLOB NOT NULL, sealed BLOB NOT NULL, created REAL NOT NULL, until REAL,
    PRIMARY KEY (name, version))
"""
_GRANTS = """
CREATE TABLE grants (app TEXT NOT NULL, version TEXT NOT NULL, principal TEXT NOT NULL, scope TEXT NOT NULL,
    place TEXT NOT NULL, PRIMARY KEY (app, version, principal, scope)) WITHOUT ROWID
"""
_LOGS = """
CREATE TABLE logs (number INTEGER PRIMARY KEY, at REAL NOT NULL, app TEXT NOT NULL, session TEXT NOT NULL,
    level TEXT NOT NULL, message TEXT NOT NULL, fields TEXT NOT NULL)
"""
_DATA_KEYS = """
CREATE TABLE data_keys (space TEXT PRIMARY KEY, key TEXT NOT NULL, wrapped BLOB NOT NULL,
    whole INTEGER NOT NULL) WITHOUT ROWID
"""

#: What was taken back, of each app and scope the last time. The newest one's record is noted beside the head
#: of the log, which every transaction reads anyway.
_REVOCATIONS = """
CREATE TABLE revocations (app TEXT NOT NULL, scope TEXT NOT NULL, number INTEGER NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (app, scope)) WITHOUT ROWID
"""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        _AUDIT,
        _HEAD,
        "INSERT INTO audit_head VALUES (1, 0, '" + "0" * 64 + "', 0)",
        _SEGMENTS,
        _ONLY_APPENDED,
        _ONLY_ARCHIVED,
        _COUNTERS,
        _SECRETS,
    ),
    (_GRANTS, _LOGS, "CREATE INDEX logs_of_app ON logs (app, at)"),
    (_DATA_KEYS,),
    (_REVOCATIONS, "ALTER TABLE audit_head ADD COLUMN revoked INTEGER NOT NULL DEFAULT 0"),
    ("ALTER TABLE audit ADD COLUMN holder TEXT NOT NULL DEFAULT ''",),
    (
        "ALTER TABLE logs ADD COLUMN size INTEGER NOT NULL DEFAULT 0",
        "UPDATE logs SET size = length(CAST(message AS BLOB)) + length(CAST(fields AS BLOB))",
        "DROP INDEX logs_of_app",
        "CREATE INDEX logs_of_app ON logs (app, number, size)",
    ),
)

#: What apps keep: a file of its own, which may be large and is none of the platform's state.
STORAGE: tuple[tuple[str, ...], ...] = (
    (
        """
CREATE TABLE storage (app TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, size INTEGER NOT NULL,
    changed REAL NOT NULL, PRIMARY KEY (app, key)) WITHOUT ROWID
""",
        "CREATE TABLE used (app TEXT PRIMARY KEY, bytes INTEGER NOT NULL) WITHOUT ROWID",
    ),
)
