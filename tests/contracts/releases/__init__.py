"""Stores as every release made them, as SQL of SQLite."""
