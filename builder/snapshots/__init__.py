"""Snapshots: filesystems as tuples of layers, and what changes from one to the next."""
