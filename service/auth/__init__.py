"""Who calls: keys as a server holds them, and how often each caller may call."""
