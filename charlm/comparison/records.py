"""A comparison as flat records, a dictionary a row: for CSV files and data frames."""

import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

from charlm.comparison.result import Comparison

PROOF_FIGURES = ("claimed_bits", "stored_bits", "ratio", "header_bits")


def records(result: Comparison) -> list[dict[str, Any]]:
    """The rows from best to worst, then the baselines; every value is a number, a text, or None."""
    flat = [_flat(row) for row in row_objects(result)]
    return [*flat, *({"architecture": entry["name"], **entry} for entry in baseline_objects(result))]


def row_objects(result: Comparison) -> list[dict[str, Any]]:
    """The rows as JSON objects, each with its name."""
    return [{"name": name, **row.to_json()} for name, row in zip(result.names, result.rows, strict=True)]


def baseline_objects(result: Comparison) -> Iterator[dict[str, Any]]:
    """What needs no model, as JSON objects with the figures that it has."""
    text = result.split.held_out
    for name, bits in result.baselines.items():
        yield {
            "name": name,
            "bits_per_character": bits,
            "bits_per_byte": bits * text.characters / text.bytes,
            "nats_per_character": bits * math.log(2),
            "perplexity": 2**bits,
        }


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of numbers and texts: intervals in two columns, of the seeds how many; how runs were made is for JSON."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if name == "difference":
            flat |= {name: value["mean"], f"{name}_low": value["low"], f"{name}_high": value["high"]}
        elif name == "conditions":
            flat |= value
        elif name == "runs":
            flat[name] = os.pathsep.join(value)
        elif name == "seeds":
            flat[name] = len(value)
        elif name == "interval":
            flat |= {f"{name}_low": value[0], f"{name}_high": value[1]}
        elif name == "proof":
            flat |= {f"proof_{figure}": (value or {}).get(figure) for figure in PROOF_FIGURES}
        elif name not in ("provenance", "dynamic"):
            flat[name] = value
    return flat
