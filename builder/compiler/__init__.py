"""The meaning of a Dockerfile: AST to definition. Pure: no I/O, and nothing known of the cache."""
