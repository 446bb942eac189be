"""A comparison as one HTML file that needs nothing else: to look at, to print, to pass on.

findings  what is to be shown, worked out run by run
plots     how a figure becomes SVG          figures   the figures of the page
html      markup from function calls        parts     the table, coloured text, tabs
drawings  what each architecture is         citation  settings, versions, machine
sections  what is shown and taught          page      the whole of it
file      where it is written               notebook  its table and curves, in a frame
"""

from charlm.report.file import check_output, write_page
from charlm.report.findings import Finding, Findings, find
from charlm.report.notebook import as_notebook
from charlm.report.page import as_page

__all__ = ["Finding", "Findings", "as_notebook", "as_page", "check_output", "find", "write_page"]
