"""Readers of events. Know nothing but events and errors."""
