"""A comparison as one HTML file that needs nothing else.

findings  the content, computed run by run
plots     figures as SVG                    figures   the figures of the page
html      markup from function calls        parts     the table, coloured text, tabs
drawings  what each architecture is         citation  settings, versions, machine
sections  the sections of the page          page      the whole page
file      where it is written               notebook  its table and curves, in a frame
"""

from charlm.report.file import check_output, write_page
from charlm.report.findings import Finding, Findings, find
from charlm.report.notebook import as_notebook
from charlm.report.page import as_page

__all__ = ["Finding", "Findings", "as_notebook", "as_page", "check_output", "find", "write_page"]
