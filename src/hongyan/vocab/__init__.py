"""Shared nouns: what a message, a number, a text, a cause and a refusal are. Frozen and pure."""
