"""`python -m service` is the `setpoint` command."""

from service.cli import main

main()
