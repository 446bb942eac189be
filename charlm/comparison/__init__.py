"""The same text, every architecture: which predicts it best, and by how much.

planning   what each is trained with, and what is made equal
sources    contenders to be trained, gone on with, or taken as they are
provenance how a run was made: settings, hashes, versions, machine
result     the rows, what was equal for all of them and what was not
comparing  have them, measure them, put them in order
words      the table's cells, and the sentences around it
records    a dictionary a row, for CSV files and data frames
"""

from charlm.comparison.comparing import SAMPLE_CHARACTERS, SAMPLING, compare, sample_line
from charlm.comparison.planning import MATCHES, Plan, budget_for, plan
from charlm.comparison.records import baseline_objects, records, row_objects
from charlm.comparison.result import Comparison, Conditions, Pair, Row
from charlm.comparison.sources import ComparisonObserver, Contender, Source, to_train, trained_already
from charlm.comparison.words import Cell, Line, differing, lead, listed, notes, pairs_table, short, table
from charlm.progress import duration

__all__ = [
    "MATCHES",
    "SAMPLE_CHARACTERS",
    "SAMPLING",
    "Cell",
    "Comparison",
    "ComparisonObserver",
    "Conditions",
    "Contender",
    "Line",
    "Pair",
    "Plan",
    "Row",
    "Source",
    "baseline_objects",
    "budget_for",
    "compare",
    "differing",
    "duration",
    "lead",
    "listed",
    "notes",
    "pairs_table",
    "plan",
    "records",
    "row_objects",
    "sample_line",
    "short",
    "table",
    "to_train",
    "trained_already",
]
