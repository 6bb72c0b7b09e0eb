"""Tests of retrained heads."""
