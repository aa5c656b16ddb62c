"""Owners for steps that have a single id: recorded, not set, and answered as if they were set."""
