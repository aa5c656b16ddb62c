"""Files, safely: every path is resolved inside its root."""
