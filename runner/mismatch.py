"""Whether a run directory is that of this run, or of another one with other answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runner.again import Again
from runner.store import MANIFEST, Index, Manifest, inside
from scenarios.prompts import Plan

# May not change between sessions of one run: answers under other settings are other answers.
_BOUND = ("target host", "api", "model", "params", "max_tokens", "system", "template")


def mismatch(
    path: Path,
    manifest: Manifest | None,
    index: Index | None,
    scenario: dict[str, Any],
    plan: Plan,
    again: Again,
) -> str | None:
    """Why this run may not go on in that directory; `None` where it may."""
    choices = "Choose: --fresh (sets the old run aside, keeps it), -o OTHER, or the old settings."
    if index is None or not len(index):
        return None
    if manifest is None:
        return f"{path} holds answers but no {MANIFEST}. {choices}"
    changed = changes(manifest.scenario, scenario)
    if changed:
        told = "; ".join(f"{name}: {change}" for name, change in changed.items())
        if again.redo and list(changed) == ["max_tokens"]:
            choices = _other_limit(path, again, _bound(scenario)["max_tokens"])
        return f"{path} was begun with other settings ({told}). Answers are not mixed. {choices}"
    if not _overlap(index, plan):
        before = manifest.prompts.name if manifest.prompts is not None else "another file"
        return (
            f"{path} belongs to another run: none of its {len(index)} answers is to a prompt of this file "
            f"(its own was {before}). {choices}"
        )
    return None


def changes(before: dict[str, Any], now: dict[str, Any]) -> dict[str, str]:
    """What of a run's scenario may not change and has changed, with how."""
    old, new = _bound(before), _bound(now)
    changed = [name for name in _BOUND if old[name] != new[name]]
    if "target host" in changed and _hosts(before) & _hosts(now):
        changed.remove("target host")  # of several --base-url, one more or one less: replicas
    return {name: f"{_short(old[name])} -> {_short(new[name])}" for name in changed}


def _other_limit(path: Path, again: Again, limit: Any) -> str:
    """What to do where a row shall be asked once more, and with another limit: that is another request."""
    reasons = " or ".join(sorted(again.redo))
    flag = "" if limit is None else f" --max-tokens {limit}"
    return (
        f"Under another limit they are other requests, so ask them in a run of their own: "
        f"`streamgauge export {path} -o answers.jsonl`, copy the rows whose finish_reason is {reasons} into "
        f"some.jsonl, and `streamgauge run some.jsonl{flag} -o OTHER` with the other flags as they are."
    )


def _bound(scenario: dict[str, Any]) -> dict[str, Any]:
    from urllib.parse import urlsplit

    target = scenario.get("target", {})
    flat = {**scenario, **target, "target host": urlsplit(target.get("base_url", "")).netloc}
    return {name: flat.get(name) for name in _BOUND}


def _hosts(scenario: dict[str, Any]) -> set[str]:
    from urllib.parse import urlsplit

    target = scenario.get("target", {})
    return {urlsplit(url).netloc for url in target.get("base_urls", [target.get("base_url", "")])}


def _short(value: Any) -> str:
    text = str(value) if not isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _overlap(index: Index, plan: Plan) -> int:
    return int(inside(index.digest, plan.digests).sum())
