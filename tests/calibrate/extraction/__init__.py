"""Tests of what gets features and logits out of models."""
