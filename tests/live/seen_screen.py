"""What a person would see: a terminal that knows the few sequences the view writes, and refuses any other."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\x1b\[(?P<private>\?)?(?P<numbers>[\d;]*)(?P<kind>[a-zA-Z])|(?P<text>[^\x1b]+)", re.DOTALL)


class Screen:
    """Characters in rows and columns, without wrapping; a character beyond the last column replaces the one in it."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.modes: dict[str, bool] = {"25": True, "7": True, "1049": False, "2026": False}
        self.printed = ""  # outside of the alternate screen
        self._cells = [[" "] * columns for _ in range(rows)]
        self._row = self._column = 0

    def resize(self, columns: int, rows: int) -> None:
        """As terminals do it: what is there stays, cut or padded."""
        self._cells = [(row + [" "] * columns)[:columns] for row in self._cells[:rows]]
        self._cells += [[" "] * columns for _ in range(rows - len(self._cells))]
        self.columns, self.rows = columns, rows

    def feed(self, text: str) -> None:
        at = 0
        while at < len(text):
            found = _TOKEN.match(text, at)
            assert found is not None, f"not known here: {text[at : at + 20]!r}"
            at = found.end()
            if found["text"] is not None:
                self._put(found["text"])
            elif found["private"]:
                self.modes[found["numbers"]] = {"h": True, "l": False}[found["kind"]]
            else:
                self._do(found["kind"], found["numbers"])

    @property
    def lines(self) -> list[str]:
        return ["".join(row).rstrip() for row in self._cells]

    def _put(self, text: str) -> None:
        if not self.modes["1049"]:
            self.printed += text
            return
        for character in text:
            assert character.isprintable(), repr(character)
            self._cells[self._row][min(self._column, self.columns - 1)] = character
            self._column = min(self._column + 1, self.columns - 1)

    def _do(self, kind: str, numbers: str) -> None:
        if kind == "H":
            row, column = (int(number) for number in numbers.split(";"))
            assert 1 <= row <= self.rows
            self._row, self._column = row - 1, column - 1
        elif kind == "J":
            assert numbers == "2"
            self._cells = [[" "] * self.columns for _ in range(self.rows)]
        elif kind == "K":
            self._cells[self._row][self._column :] = [" "] * (self.columns - self._column)
        else:
            assert kind == "m", f"not known here: {kind}"
