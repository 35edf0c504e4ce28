"""Nouns and rules of the house; nothing here does I/O."""
