"""n-grams as ARPA files, which KenLM, SRILM and most speech recognisers know, and back."""

from charlm.export.arpa.reading import read_arpa
from charlm.export.arpa.writing import write_arpa

__all__ = ["read_arpa", "write_arpa"]
