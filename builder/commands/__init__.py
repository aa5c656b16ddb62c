"""The subcommands: each takes its words and flags apart, calls a library, and prints what was asked for.

One module per family, imported only when its command is typed. No module here decides how something is
built: that is `builder.build`'s.
"""
