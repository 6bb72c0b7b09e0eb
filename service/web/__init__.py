"""HTTP: what goes over the wire, one table of routes, one of errors."""
