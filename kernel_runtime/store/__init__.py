"""State on disk, private to its owner: the ledger in SQLite, checkpoints as packs of chunks."""
