"""Reads checkpoints and says what became of each new token."""
