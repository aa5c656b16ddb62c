"""The check of a store: every digest derived again, every finding told with what it is about, and mended.

`check` asks one module after the other, each of which knows one kind of thing; `mending` takes away what is
damaged, so that it is made or fetched again. Never makes up what is lost.
"""
