"""Models in other programs' formats: ARPA files of n-grams, which KenLM, SRILM and most speech recognisers know."""

from charlm.export.reading import read_arpa
from charlm.export.writing import write_arpa

__all__ = ["read_arpa", "write_arpa"]
