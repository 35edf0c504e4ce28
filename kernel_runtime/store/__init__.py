"""State on disk: SQLite, one file, private to its owner."""
