"""A layer that only one side of a comparison knows: nothing on the other side, or there unseen. Missing is not zero."""

from __future__ import annotations

from dataclasses import replace

from latprof.analysis.verdicts.arms import Arm, Key
from latprof.analysis.verdicts.estimates import Estimate, without_interval
from latprof.analysis.verdicts.told import hidden_in, matters, parts, tells_apart
from latprof.layers.vocabulary import belongs_to


def figure_beside(arm: Arm, other: Arm, key: Key) -> Estimate:
    """The figure of ``arm``, to be held against that of ``other``: 0 for a layer that ``arm`` does not know at all, where nothing can hide it."""
    if not is_absent(arm, key):
        return arm.figure(key)
    return _nothing_like(other.figure(key), _told_apart(arm, other, key))


def is_absent(arm: Arm, key: Key) -> bool:
    """Whether the arm tells the metric's layers, and nothing of this one is in any of them: not merged with a neighbour, nor in what nobody tells apart."""
    layer, names = key.selector.layer, arm.layers.get(key.selector.metric, ())
    wanted, there = parts(layer), [part for name in names for part in parts(name)]
    if not layer or not names or _fills(arm, key, hidden_in(names, layer)):
        return False
    return not any(belongs_to(part, one) or belongs_to(one, part) for part in there for one in wanted)


def _fills(arm: Arm, key: Key, block: str) -> bool:
    """Whether ``block``, of which nobody tells the parts, is more than a request or two whose spans were lost."""
    whole, part = (arm.figure(key._replace(selector=replace(key.selector, layer=layer))).value for layer in ("", block))
    return bool(block) and matters(part, whole)


def _told_apart(arm: Arm, other: Arm, key: Key) -> str:
    """Why 0 is no figure of ``arm``: what is one block in ``other`` are layers in it; empty where 0 is one."""
    layer, names = key.selector.layer, arm.layers[key.selector.metric]
    return f"it tells apart what {layer} is made of" if tells_apart(names, layer) and _fills(other, key, layer) else ""


def _nothing_like(other: Estimate, why: str) -> Estimate:
    if why:
        return without_interval(0.0, other.replications, other.n, why, other.n_eff)
    return replace(other, value=0.0, low=0.0, high=0.0, error=0.0, figures=tuple(0.0 for _ in other.figures), counted=None, pooled=None)
