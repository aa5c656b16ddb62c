"""Blobs and locks on disk. Knows nothing of what a blob means."""
