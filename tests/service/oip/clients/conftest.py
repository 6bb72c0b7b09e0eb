"""Nothing here is collected: what the clients' scripts import may not be installed."""

collect_ignore_glob = ["*.py"]
