"""From outline to session: texts are made to measure, answers planned or left to come."""

from __future__ import annotations

from dataclasses import dataclass

from latprof.workload.outline import Made, Outline, StepOutline, Told, TurnOutline
from latprof.workload.prompts import Prompts
from latprof.workload.sessions import Session, Step, Text, Tool, Turn


@dataclass(frozen=True, slots=True)
class Pen:
    """What texts are made with. ``plans_answers``: a turn that is continued has its answer before the run, recorded or made."""

    prompts: Prompts
    seed: int
    plans_answers: bool = True


def written(pen: Pen, outline: Outline, session: int, lap: int = 0) -> Session:
    """``outline`` as session number ``session``, with all its texts.

    ``lap`` tells copies of a workload apart: blocks are equal text within one of them only, so that a warm-up fills no cache with what is measured.
    """
    continued = {step.context for step in outline.steps if isinstance(step, TurnOutline)}
    texts = _Texts(pen, session, lap)
    return Session(session, tuple(_step(texts, number, step, number in continued) for number, step in enumerate(outline.steps)))


@dataclass(frozen=True, slots=True)
class _Texts:
    """The texts of one session."""

    pen: Pen
    session: int
    lap: int

    def text(self, told: Told, step: int, purpose: str) -> tuple[Text, int]:
        """A text and its length in tokens."""
        prompts, seed = self.pen.prompts, self.pen.seed
        if isinstance(told, str):
            return told, prompts.count_tokens(told)
        if not told.blocks:
            return prompts.text(told.tokens, seed, self.session, step, purpose), told.tokens
        return prompts.of_blocks(told, seed, self.lap, (self.session, step, purpose)), told.tokens


def _step(texts: _Texts, number: int, step: StepOutline, is_continued: bool) -> Step:
    if isinstance(step, Tool):
        return step
    prompt, prompt_tokens = texts.text(step.prompt, number, "prompt")
    system: Text = "" if step.system is None else texts.text(step.system, number, "system")[0]
    answer, output_tokens = _answer(texts, number, step, is_continued)
    return Turn(prompt, prompt_tokens, output_tokens, step.think_ns, step.after, step.context, system, answer, step.role, step.at_ns)


def _answer(texts: _Texts, number: int, step: TurnOutline, is_continued: bool) -> tuple[Text | None, int]:
    """The planned answer, where one is needed, and how many tokens are asked for."""
    told = step.answer if step.answer is not None else None if step.output_tokens is None else Made(step.output_tokens)
    is_needed = is_continued and texts.pen.plans_answers
    if told is None or (isinstance(told, Made) and not is_needed):
        return None, step.output_tokens or 1
    text, length = texts.text(told, number, "answer")
    return (text if is_needed else None), (length if step.output_tokens is None else step.output_tokens)
