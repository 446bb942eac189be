"""`python -m charlm.inference.kernels recurrent.lstm …` compiles kernels into the cache of numba."""

import sys
from importlib import import_module

from charlm.inference.kernels.arithmetic import load

for name in sys.argv[1:]:
    file, _, function = name.partition(".")
    load(getattr(import_module(f"charlm.inference.kernels.{file}"), function))
