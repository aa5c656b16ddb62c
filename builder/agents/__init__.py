"""Agents of ssh for `RUN --mount=type=ssh` and for git: the user's own, or one of ours that holds keys."""
