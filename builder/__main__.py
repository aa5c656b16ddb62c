"""`python -m builder` is `pybuild`."""

from builder.cli import script

if __name__ == "__main__":
    script()
