"""The demo: a real medical model, trained here on imbalanced data, served under three operating points."""
