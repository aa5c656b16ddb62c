"""YAML as CDI's own reader takes it: plain data, no key twice. The one module that loads a YAML library."""

from __future__ import annotations

from typing import Any

import yaml

from builder.devices.errors import CdiError

MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """Plain data; a key that is there twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != MERGE]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                raise CdiError(f"{key} is there twice (line {node.start_mark.line + 1})")
        return super().construct_mapping(node, deep)


def load(text: bytes) -> object:
    """The one document of a text. Raises CdiError."""
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        raise CdiError(f"it is no YAML: {error.problem}{line}") from error
    except (yaml.YAMLError, TypeError, ValueError, RecursionError) as error:
        raise CdiError(f"it is no YAML: {error}") from error
