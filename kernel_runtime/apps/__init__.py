"""An app through time: its manifest, wherever it is written."""
