"""Import mutants of good files: no traceback, no wrong row, nothing half-written. Run it with `make fuzz`.

A mutant is known by its format, seed and number. Every one is imported, one of three with --skip-bad, and after each
that is refused the good source is imported to the same --out.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from fuzzing.batches import FORK, run_mutants
from fuzzing.mutation import Format, Source
from fuzzing.trial import Result, attempt, clear

FORMATS = ("hdf5", "lerobot", "rosbag")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the mutants; returns 1 if any showed a fault."""
    options = _parser().parse_args(arguments)
    formats = options.formats or FORMATS
    counts: dict[str, Counter[tuple[str, str]]] = {}
    faults: list[Result] = []
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="fuzz_") as created:
        folder, mutant = Path(created), Path(created) / "mutant"
        for name in formats:
            start_s = time.monotonic()
            form, sources = load(name, folder / name)
            if options.only is not None:
                return _show(form, sources, options.seed, options.only, mutant)
            counts[name] = Counter()
            numbers = range(options.first, options.first + options.mutants)
            for result in run_mutants(form, sources, options.seed, numbers, mutant):
                counts[name][result.kind, outcome(result)] += 1
                if result.fault:
                    faults.append(result)
                    sys.stdout.write(line(result) + "\n")
                    sys.stdout.flush()
            seconds[name] = time.monotonic() - start_s
    for name in formats:
        sys.stdout.write("\n".join(table(name, counts[name], seconds[name])) + "\n")
    if options.json:
        figures = {
            "seed": options.seed,
            "mutants": {name: sum(count.values()) for name, count in counts.items()},
            "seconds": seconds,
            "outcomes": {
                name: {f"{kind}: {end}": number for (kind, end), number in sorted(count.items())}
                for name, count in counts.items()
            },
            "faults": [asdict(fault) for fault in faults],
        }
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 1 if faults else 0


def load(name: str, folder: Path) -> tuple[Format, list[Source]]:
    """A format, and its good sources written into the folder by a process that is gone before others are forked."""
    form: Format = importlib.import_module(f"fuzzing.{name}").FORMAT
    folder.mkdir(parents=True)
    receiver, sender = FORK.Pipe(duplex=False)
    process = FORK.Process(target=lambda: sender.send(form.write_sources(folder)))
    process.start()
    sender.close()
    sources = receiver.recv()
    process.join()
    importlib.import_module(f"lewm_training.data.formats.{name}")
    return form, sources


def outcome(result: Result) -> str:
    """In one word."""
    if result.fault:
        return "faults"
    return "refused" if result.status else "imported"


def line(result: Result) -> str:
    """A fault, so that it can be looked for and tried again."""
    skip = " --skip-bad" if result.skip_bad else ""
    mutant = f"{result.format} seed {result.seed} number {result.number}"
    return f"{mutant} ({result.source}: {result.kind}{skip}): {result.fault}"


def table(name: str, counts: Counter[tuple[str, str]], seconds: float) -> Iterator[str]:
    """What became of the mutants of each kind."""
    yield f"\n{name:<40}{'imported':>10}{'refused':>10}{'faults':>10}"
    for kind in dict.fromkeys(kind for kind, _ in counts):
        yield f"{kind:<40}" + "".join(f"{counts[kind, end]:>10}" for end in ("imported", "refused", "faults"))
    totals = [sum(n for (_, e), n in counts.items() if e == end) for end in ("imported", "refused", "faults")]
    yield f"{f'all {sum(totals)} in {seconds:.0f} s':<40}" + "".join(f"{total:>10}" for total in totals)


def _show(form: Format, sources: Sequence[Source], seed: int, number: int, folder: Path) -> int:
    clear(folder)
    result, said = attempt(form, sources, seed, number, folder)
    sys.stdout.write(f"{said}\nstatus {result.status}\n{line(result)}\n")
    return 1 if result.fault else 0


def _format(name: str) -> str:
    if name not in FORMATS:
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(FORMATS)}, got '{name}'")
    return name


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "formats", nargs="*", type=_format, metavar="FORMAT", help=f"some of {', '.join(FORMATS)}; all if left out"
    )
    parser.add_argument("--mutants", type=int, default=2000, help="of each format (default 2000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant (default 0)")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="one mutant of one format, with all that is said")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
