"""An open loop that asks more of a layer than it can do: known before the run, of a stack whose service times are known."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Overload:
    """``phase`` asks ``utilisation`` (1 and more) times of what ``layer`` can do; below ``below_per_s`` sessions a second it would not."""

    phase: str
    layer: str
    utilisation: float
    below_per_s: float

    @property
    def text(self) -> str:
        """What is wrong with it."""
        return (
            f"phase {self.phase} asks {self.utilisation:.2f} times of what {self.layer} can do, so its queue grows as long as the run lasts"
        )

    @property
    def remedies(self) -> tuple[str, ...]:
        """What can be done, each by itself."""
        return (
            f"lower the rate below {self.below_per_s:.3g}/s",
            f"give {self.layer} more servers or a speed-up",
            "take a closed loop (load.concurrency)",
        )

    @property
    def line(self) -> str:
        """Both, as they are said before a run that is made all the same."""
        return f"unstable load: {self.text}; {', '.join(self.remedies[:-1])}, or {self.remedies[-1]}"
