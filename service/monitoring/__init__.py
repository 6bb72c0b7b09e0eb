"""What an operator sees of a running server: metrics, logs and traces, and the one hook that feeds all three."""
