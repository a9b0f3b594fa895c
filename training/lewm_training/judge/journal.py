"""What was finished of a long measurement, line by line, so that an interrupted one goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lewm_ros.config import ConfigError


class Journal:
    """Results by number, kept in a file until all are there.

    Args:
        path: of the file; None: nothing is kept.
        settings: what must not change when a measurement goes on.

    Raises:
        ConfigError: the file is of a measurement with other settings.
    """

    def __init__(self, path: Path | None, settings: dict[str, Any]) -> None:
        self._path = path
        self.finished: dict[int, dict[str, Any]] = {}
        head = json.dumps({"settings": settings}, sort_keys=True)
        if path is None:
            return
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(head + "\n", encoding="utf-8")
            return
        first, *lines = path.read_text(encoding="utf-8").splitlines(keepends=True) or [""]
        if first.rstrip("\n") != head:
            raise ConfigError(f"{path}: is of a measurement with other settings; remove it to begin anew")
        whole = [json.loads(line) for line in lines if line.endswith("\n")]  # the last one may have been cut off
        self.finished = {entry["number"]: entry["result"] for entry in whole}
        path.write_text(first + "".join(line for line in lines if line.endswith("\n")), encoding="utf-8")

    def keep(self, number: int, result: dict[str, Any]) -> None:
        """Note a result."""
        self.finished[number] = result
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"number": number, "result": result}) + "\n")

    def end(self) -> None:
        """Remove the file: the report has everything."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
