"""Serves a model with operating points that its users choose."""
