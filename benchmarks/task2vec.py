"""Which benchmark dataset Task2Vec finds nearest to each target of the full playground, beside what a person says.

    python benchmarks/task2vec.py PLAYGROUND [--home DIR] [--image-probe NAME] [--text-probe NAME]

PLAYGROUND is built (the small one) where it is not there yet; the target datasets of the full one are written beside
it. Probes that are not named are chosen as a query chooses them. Every line of the matrix is one query's answer.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from shiftql.engine import Session
from tasks.playground.sizes import FULL, TargetSpec
from tasks.playground.targets import split_path, write

# None where nothing else is like it.
NAMED_BY_A_PERSON: dict[str, set[str]] = {
    "drawn-digits": {"small-letters", "symbols"},
    "small-letters": {"drawn-digits", "symbols"},
    "symbols": {"drawn-digits", "small-letters"},
    "counting-shapes": {"shape-kinds"},
    "shape-kinds": {"counting-shapes"},
    "double-bars": set(),
    "coarse-textures": set(),
    "sentence-topics": {"documentation-topics"},
    "documentation-topics": {"sentence-topics", "science-topics"},
    "science-topics": {"documentation-topics"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("playground", type=Path)
    parser.add_argument("--home", type=Path, help="of the catalog and the results; a new one where none is given")
    parser.add_argument("--image-probe")
    parser.add_argument("--text-probe")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["SHIFT_HOME"] = str(arguments.home or scratch)
        session = Session()
        session.make_playground(arguments.playground, "small", 0)
        targets = [spec for spec in FULL if isinstance(spec, TargetSpec)]
        for spec in targets:
            directory = arguments.playground / "targets" / spec.name
            if not directory.exists():
                directory.mkdir(parents=True)
                write(spec, directory, seed=0)
            session.add_dataset(f"{spec.name}-train", str(split_path(directory, "train", spec.reader)))
        agreed, asked = 0, 0
        for modality, probe in (("image", arguments.image_probe), ("text", arguments.text_probe)):
            names = [spec.name for spec in targets if spec.modality == modality]
            began = time.perf_counter()
            lines = {name: _distances(session, name, names, probe) for name in names}
            used = next(iter(lines.values()))[1]
            print(f"{modality}, probe {used}, {time.perf_counter() - began:.0f} s\n")
            print(
                "| | " + " | ".join(names) + " | nearest | as a person says |\n|---" + "|---" * (len(names) + 2) + "|"
            )
            for name in names:
                distances = lines[name][0]
                nearest = min(distances, key=distances.__getitem__)
                expected = NAMED_BY_A_PERSON[name]
                if expected:
                    asked += 1
                    agreed += nearest in expected
                verdict = ("yes" if nearest in expected else "no") if expected else "no one to name"
                figures = " | ".join("" if other == name else f"{distances[other]:.3f}" for other in names)
                print(f"| {name} | {figures} | {nearest} | {verdict} |")
            print()
        print(f"as a person says: {agreed} of {asked}")
        session.stop_server()


def _distances(session: Session, name: str, names: list[str], probe: str | None) -> tuple[dict[str, float], str]:
    listed = ", ".join(f"'{each}-train'" for each in names)
    ranker = f"Task2Vec(probe='{probe}')" if probe else "Task2Vec"
    query = f"SELECT name FROM datasets WHERE name IN ({listed}) ORDER BY {ranker} TRAINED ON '{name}-train'"
    (answer,) = session.run(query)
    rows: list[dict[str, Any]] = answer.to_json()["rows"]
    return {row["name"].removesuffix("-train"): row["distance"] for row in rows}, rows[0]["probe"]


if __name__ == "__main__":
    main()
