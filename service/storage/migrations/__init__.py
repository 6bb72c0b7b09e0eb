"""Migrations of the store, each from the one before."""
