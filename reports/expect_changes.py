"""Which prompts had the answers that were expected before, and have not now: two runs, prompt by prompt.

A prompt may be asked several times in a run (samples, a bench that begins its file again). It passed before
where each answer passed, and fails now where one does not. Only prompts that both runs judged are compared.
Memory grows with the number of prompts, not with their answers.
"""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from reports.expect import Result, results
from reports.expectation import Answer
from reports.rows import decoded, open_index
from runner.store import load_manifest

MOST = 20
"""So many are shown with their answers."""
_SHOWN = 400


class Change(Struct, kw_only=True):
    """One prompt that passed before and fails now."""

    prompt_id: str
    index: int  # of the answer that fails
    before_n: int  # answers before, all of which passed
    now_passed: int
    now_n: int
    failures: dict[str, str]  # of the first answer that fails, by what did not hold
    before: str | None  # an answer of each, cut; `None`: its text was not kept
    now: str | None


class Changes(Struct, kw_only=True):
    """What two runs differ in. All 0: nothing was expected in both."""

    both: int = 0  # prompts judged in both
    broke: int = 0  # passed before, fail now
    mended: int = 0  # failed before, pass now
    shown: list[Change] = []  # the first of those that broke


class _Prompt(Struct):
    passed: int = 0
    n: int = 0
    first_failure: Result | None = None

    @property
    def holds(self) -> bool:
        return self.passed == self.n


def expectation_changes(base: Path, new: Path) -> Changes:
    """Compare the expectations of two runs.

    Raises:
        StoreError: one of them cannot be read.
    """
    before, now = _prompts(base), _prompts(new)
    both = [prompt for prompt in now if prompt in before]
    broke = [prompt for prompt in both if before[prompt].holds and not now[prompt].holds]
    broke.sort(key=lambda prompt: _failure(now[prompt]).index)
    chosen = broke[:MOST]
    old = _answers(base, dict.fromkeys(chosen))
    current = _answers(new, {prompt: _failure(now[prompt]).id for prompt in chosen})
    return Changes(
        both=len(both),
        broke=len(broke),
        mended=sum(not before[prompt].holds and now[prompt].holds for prompt in both),
        shown=[
            Change(
                prompt_id=prompt,
                index=_failure(now[prompt]).index,
                before_n=before[prompt].n,
                now_passed=now[prompt].passed,
                now_n=now[prompt].n,
                failures=_failure(now[prompt]).failures,
                before=old.get(prompt),
                now=current.get(prompt),
            )
            for prompt in chosen
        ],
    )


def _prompts(run: Path) -> dict[str, _Prompt]:
    out: dict[str, _Prompt] = {}
    for result in results(run):
        prompt = out.setdefault(result.prompt_id, _Prompt())
        prompt.n += 1
        prompt.passed += result.passed
        if not result.passed and prompt.first_failure is None:
            prompt.first_failure = result
    return out


def _failure(prompt: _Prompt) -> Result:
    assert prompt.first_failure is not None
    return prompt.first_failure


def _answers(run: Path, wanted: dict[str, str | None]) -> dict[str, str]:
    """An answer to each prompt: of the record named, or the first."""
    if not wanted or load_manifest(run).slim:
        return {}
    out: dict[str, str] = {}
    for block in decoded(open_index(run), Answer):
        for answer in block:
            if answer.phase != "measure" or answer.prompt_id not in wanted:
                continue
            id_wanted = wanted[answer.prompt_id]
            if answer.prompt_id not in out and id_wanted in {None, answer.id}:
                out[answer.prompt_id] = _said(answer)
    return out


def _said(answer: Answer) -> str:
    text = answer.text or answer.refusal or ""
    if not text and answer.tool_calls:
        text = f"[{len(answer.tool_calls)} tool calls]"
    if not text and answer.error is not None:
        text = f"[failed: {answer.error.kind}]"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
