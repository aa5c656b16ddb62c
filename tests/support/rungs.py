"""The rungs that root can stand on here, to run a test on each of them with `--isolation`."""

from __future__ import annotations

import pytest

from tests.support.namespaces import has_user_namespaces

_REFUSED = pytest.mark.skipif(not has_user_namespaces(), reason="user namespaces are refused here")
RUNGS = ["root", pytest.param("userns", marks=_REFUSED), pytest.param("single-uid", marks=_REFUSED)]
