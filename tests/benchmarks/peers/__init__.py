"""Programs that serve a network with other projects, each run by the Python of an environment of its own."""
