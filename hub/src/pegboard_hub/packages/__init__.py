"""The package index: where authors get the kit that this instance runs with.

It serves the kit alone, made of what the hub itself has imported. Nothing can be put on it.
"""
