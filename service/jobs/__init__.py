"""Calibrations as jobs: taken in at the desk, run by the runner, watched on the board."""
