"""Long runs of a real server under load and faults; `make soak` runs them in full and writes `docs/soak.md`.

The test suite runs each of them too, for seconds instead of minutes.
"""
