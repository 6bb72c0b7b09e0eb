"""Real clients of the protocol, each run by a Python that has it, against a real server.

They import nothing of the project, and say on standard output for each check what went wrong, or nothing.
"""
