"""Benchmarks: each beside its peer in one run, off unless asked for (`make bench`)."""
