"""Reading text, splitting it, and turning it into streams of ids.

text       a text on disk or in memory, addressed by characters
source     what the user names -> a text          listing  which files that are, and which are left out
encodings  which encoding a file is in            decoder  its bytes -> text
log        what came of reading, to be told       origin   where a run's text came from, to read it again
builtin    corpora that every Python brings
classics   corpora to download, verified
download   one file over HTTP, resumable
catalogue  every corpus that has a name, and whether it is here
splits     training, validation, held out
overlap    how much of one text stands in another
line_ends  how the lines of a text end
ids        a text as one stream of ids, mapped when it is large
mapping    large files without their memory
folders    where corpora and caches live
"""

from charlm.corpus.builtin import BUILTINS, PREFIX, Builtin
from charlm.corpus.catalogue import Entry, catalogue
from charlm.corpus.classics import CLASSICS, Classic, Fetched, downloaded, fetch
from charlm.corpus.encodings import AUTO, ERRORS
from charlm.corpus.folders import cache_folder, data_folders, receiving_folder
from charlm.corpus.ids import Encoder, Stream, blocks, clear_cache, encode
from charlm.corpus.line_ends import known_line_ends, unknown_line_ends
from charlm.corpus.listing import STANDARD_INPUT
from charlm.corpus.log import ReadingLog
from charlm.corpus.origin import Origin, Reopened, relocated, reopen
from charlm.corpus.overlap import share_in
from charlm.corpus.source import open_corpus
from charlm.corpus.splits import MIN_CHARACTERS, Split, TrainingPart, split
from charlm.corpus.text import Text

__all__ = [
    "AUTO",
    "BUILTINS",
    "CLASSICS",
    "ERRORS",
    "MIN_CHARACTERS",
    "PREFIX",
    "STANDARD_INPUT",
    "Builtin",
    "Classic",
    "Encoder",
    "Entry",
    "Fetched",
    "Origin",
    "ReadingLog",
    "Reopened",
    "Split",
    "Stream",
    "Text",
    "TrainingPart",
    "blocks",
    "cache_folder",
    "catalogue",
    "clear_cache",
    "data_folders",
    "downloaded",
    "encode",
    "fetch",
    "known_line_ends",
    "open_corpus",
    "receiving_folder",
    "relocated",
    "reopen",
    "share_in",
    "split",
    "unknown_line_ends",
]
