"""Getting features or logits out of trained models that nobody here wrote, into feature caches."""
