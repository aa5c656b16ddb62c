"""pybuild: an OCI image builder with a Dockerfile compiler.

This module imports nothing: the runtime's child process and the cached path pass through it.
"""

__version__ = "0.1.0"
