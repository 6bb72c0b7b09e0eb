"""Statistical promises, held against simulations with a known truth."""
