"""The numbers that are carried along a text, beside the last symbols themselves, for what lies further back."""

(
    WORD,  # hash of the word so far, 0 outside words
    LAST_WORD,
    WORD_BEFORE,
    HISTORY,  # hash of all symbols read so far
    IN_WORD,  # letters of the word so far; outside words it counts down from 0
    COLUMN,
    LINE_LENGTH,  # of the line before
    LENGTH_BEFORE,  # and of the one before that
    FIRST,  # symbol of the line that is no space, plus 1
    FIRST_WORD,
    INDENT,
    FIELDS,  # spaces and punctuation marks of the line so far
    FIELD,  # hash of the symbols since the last of these
    PARAGRAPH,  # first symbol of the first line after an empty one
    SHAPE,  # kinds of the last 16 symbols, 3 bits each
    MATCH,  # place of the training text that may go on as this text does; 0: none
    MATCHED,  # symbols that have agreed since the match began, or since it last failed
    MISSED,  # symbols that have not
    READ,  # symbols read so far
) = range(19)
CARRIED = READ + 1
