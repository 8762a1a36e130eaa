"""What stands for the real tokenizer in virtual time: a straight line in the tokens that are new to the gateway."""

from __future__ import annotations

from collections import OrderedDict

from latprof.config import Gateway
from latprof.stub.models.stages import Layer
from latprof.stub.virtual.call import NO_CONTEXT, Call, VirtualTurn


class ModelledTokenizer:
    """t0 + per_token * tokens, where the last ``token_cache`` prompts are known, and of one that continues such a prompt only the rest counts."""

    def __init__(self, gateway: Gateway, layer: Layer) -> None:
        self._model, self._layer = gateway.tokenize_model, layer
        self._capacity = gateway.token_cache
        self._kept: OrderedDict[tuple[int, int], None] = OrderedDict()  # (session, step), the least recently used first

    def service_ns(self, call: Call) -> int:
        """The call's service; its prompt is known from now on."""
        tokens = call.prompt_tokens - (self._known_tokens(call) if self._capacity else 0)
        return self._layer.adjust_ns(round(self._model.t0_ns + self._model.per_token_ns * tokens), call.key)

    def _known_tokens(self, call: Call) -> int:
        session, steps = call.key.session, () if call.client is None else call.client.session.steps
        known, step = 0, steps[call.step].context if steps else NO_CONTEXT
        while step != NO_CONTEXT and not known:
            turn = steps[step]
            assert isinstance(turn, VirtualTurn), "a conversation is continued from a turn"  # noqa: S101 - for the type checker
            if (session, step) in self._kept:
                self._kept.move_to_end((session, step))
                known = turn.prompt_tokens
            step = turn.context
        self._kept[session, call.step] = None
        while len(self._kept) > self._capacity:
            self._kept.popitem(last=False)
        return known
