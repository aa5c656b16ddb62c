"""What differs between a step and an earlier one: from named parts to reasons. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from builder.explain.reason import Reason, contrast, listed
from builder.keyparts.veil import is_hidden, shown_of

MOST_VARIABLES = 8  # told one by one
UNSET = "not set"
SHORT = 19  # of a digest: `sha256:` and twelve digits
NOT_TOLD = "its value is not shown"
# Told in other words than their names, or with others.
SPECIAL = (
    "env",
    "env order",
    "env pairs",
    "command",
    "mounts",
    "version",
    "image",
    "heredocs",
    "order",
    "takes",
)
NOT_COUNTED = ("(from)",)


def differences(kind: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> list[Reason]:
    """What differs in the parts of two steps of one kind; [] where they are equal."""
    if was == now and list(was.get("env") or ()) == list(now.get("env") or ()):
        return []
    found = [*_version(kind, was, now), *_image(was, now), *_command(kind, was, now), *_env(kind, was, now)]
    found += _mounts(kind, was, now)
    found += _heredocs(kind, was, now)
    for name in [*was, *(name for name in now if name not in was)]:
        if name not in SPECIAL and name not in NOT_COUNTED and was.get(name) != now.get(name):
            found.append(_field(kind, name, was.get(name), now.get(name)))
    if not found and any(was.get(name) != now.get(name) for name in ("takes", "order", "env pairs", "op")):
        found.append(Reason("sources", f"{kind}: the kinds or the order of its sources changed"))
    return found


def _field(kind: str, name: str, was: Any, now: Any) -> Reason:
    before, after = contrast(_text(was), _text(now))
    if before == after:
        return Reason(
            "field", f"{kind}: {name} changed (what differs is not shown)", {"field": name, "hidden": True}
        )
    if isinstance(was, bool) or isinstance(now, bool):
        text = f"{kind}: {name} is {'on' if now else 'off'}, was {'on' if was else 'off'}"
    else:
        text = f"{kind}: {name} was {before or 'empty'}, is {after or 'empty'}"
    return Reason("field", text, {"field": name, "was": _plain(was), "is": _plain(now)})


def _version(kind: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> list[Reason]:
    before, after = was.get("version"), now.get("version")
    if before == after:
        return []
    text = f"{kind}: this version of pybuild does it in another way"
    return [Reason("version", text, {"was": before, "is": after})]


def _image(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[Reason]:
    before, after = was.get("image"), now.get("image")
    if before == after:
        return []
    data = {"was": before, "is": after}
    source, target = was.get("(from)"), now.get("(from)")
    if source != target:
        shown = f"base image was {shown_of(source)}, is {shown_of(target)}"
        return [Reason("base", shown, {**data, "imageWas": source, "imageIs": target})]
    return [
        Reason("base", f"base image digest changed from {_short(before)} to {_short(after)}", data),
    ]


def _command(kind: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> list[Reason]:
    before, after = was.get("command"), now.get("command")
    if before == after:
        return []
    old, new = list(before or ()), list(after or ())
    if len(old) > 1 and len(new) > 1 and old[-1] == new[-1]:
        texts = contrast(_words(old[:-1]), _words(new[:-1]))
        data = {"field": "shell", "was": _words(old[:-1]), "is": _words(new[:-1])}
        return [Reason("command", f"{kind}: shell was {texts[0]}, is {texts[1]}", data)]
    if old[:-1] == new[:-1] and len(old) == 3:
        whole = shown_of(old[-1]), shown_of(new[-1])
    else:
        whole = _words(old), _words(new)
    data = {"field": "command", "was": whole[0], "is": whole[1]}
    texts = contrast(*whole)
    if texts[0] == texts[1]:
        return [Reason("command", f"{kind}: command changed (what differs is not shown)", data)]
    return [Reason("command", f"{kind}: command was {texts[0]}, is {texts[1]}", data)]


def _env(kind: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> list[Reason]:
    before, after = was.get("env") or {}, now.get("env") or {}
    if before == after:
        if list(before) == list(after):
            return []
        return [Reason("env", f"{kind}: the order of the environment changed", {"field": "env"})]
    if "" in before or "" in after:  # too many to be kept
        return [Reason("env", f"{kind}: the environment changed", {"field": "env"})]
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    told = [_variable(kind, name, before, after) for name in changed[:MOST_VARIABLES]]
    if rest := changed[MOST_VARIABLES:]:
        names = listed(rest)
        told.append(Reason("env", f"{kind}: {len(rest)} more variables changed: {names}", {"names": rest}))
    return told


def _variable(kind: str, name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Reason:
    was, now = before.get(name), after.get(name)
    data: dict[str, Any] = {"name": name}
    if is_hidden(was) or is_hidden(now):
        how = "is new" if was is None else "is gone" if now is None else "changed"
        return Reason("env", f"{kind}: env {name} {how} ({NOT_TOLD})", {**data, "hidden": True})
    texts = contrast("" if was is None else shown_of(was), "" if now is None else shown_of(now))
    shown_was = UNSET if was is None else texts[0]
    shown_now = UNSET if now is None else texts[1]
    data |= {"was": _plain(was), "is": _plain(now)}
    if shown_was == shown_now:
        return Reason("env", f"{kind}: env {name} changed (what differs is not shown)", data)
    return Reason("env", f"{kind}: env {name} was {shown_was}, is {shown_now}", data)


def _mounts(kind: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> list[Reason]:
    before, after = _by_target(was.get("mounts")), _by_target(now.get("mounts"))
    told = []
    for name in {**before, **after}:
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        data: dict[str, Any] = {"field": "mounts", "mount": name}
        if old is None or new is None:
            how = "is new" if old is None else "is gone"
            told.append(Reason("mount", f"{kind}: --mount {name} {how}", data))
            continue
        for key in {**old, **new}:
            if key != "input" and old.get(key) != new.get(key):
                texts = contrast(_text(old.get(key)), _text(new.get(key)))
                told.append(
                    Reason("mount", f"{kind}: --mount {name}: {key} was {texts[0]}, is {texts[1]}", data)
                )
    if not told and was.get("mounts") != now.get("mounts"):
        told.append(Reason("mount", f"{kind}: the order of its mounts changed", {"field": "mounts"}))
    return told


def _by_target(mounts: Any) -> dict[str, dict[str, Any]]:
    """Mounts by what people call them: `type=cache,target=/c`."""
    named: dict[str, dict[str, Any]] = {}
    for mount in mounts or ():
        place = mount.get("target")
        name = f"type={mount.get('type')}," + (
            f"target={shown_of(place)}" if place else f"id={shown_of(mount.get('id'))}"
        )
        while name in named:
            name += " (again)"
        named[name] = mount
    return named


def _heredocs(kind: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> list[Reason]:
    before = {shown_of(name): text for name, text in was.get("heredocs") or ()}
    after = {shown_of(name): text for name, text in now.get("heredocs") or ()}
    told = []
    for name in {**before, **after}:
        if before.get(name) != after.get(name):
            how = "changed" if name in before and name in after else "is new" if name in after else "is gone"
            told.append(Reason("heredoc", f"{kind}: heredoc {name} {how}", {"name": name}))
    return told


def _short(digest: Any) -> str:
    text = str(digest)
    return text[:SHORT] + "…" if len(text) > SHORT else text


def _words(words: list[Any]) -> str:
    return json.dumps([shown_of(word) for word in words], ensure_ascii=False)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(shown_of(item) for item in value) or "none"
    if value is None or value == "":
        return "none"
    return shown_of(value)


def _plain(value: Any) -> Any:
    """A value for programs, as it is kept: what was left out stays out."""
    if isinstance(value, dict) and "shown" in value:
        return value["shown"]
    return [_plain(item) for item in value] if isinstance(value, list) else value
