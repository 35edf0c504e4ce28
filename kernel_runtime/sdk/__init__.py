"""What code inside a guest may import: the house as seen from within."""
