# For gdb: reads every byte of the regions in `wanted` (name, first address, pages, pattern) and prints as one line of JSON which bytes
# are not what the pattern says. See src/bin/oracle.rs and src/bin/menagerie.rs for the patterns.
import array
import json

import gdb

PAGE = 4096
WORDS = PAGE // 8


def mixed(start, words):
    """Every word by its number."""
    return [index for index, word in enumerate(words) if word != index * 0x9E37_79B9_7F4A_7C15 & (1 << 64) - 1]


def zeros(start, words):
    return [index for index, word in enumerate(words) if word]


def addresses(start, words):
    """Every word is its address."""
    return [index for index, word in enumerate(words) if word != start + 8 * index]


def generations(start, words, stride=64):
    """The words at a stride go down by one at the most, once; zeros between."""
    wrong = [index for index, word in enumerate(words) if index % stride and word]
    strided = words[::stride]
    if strided[0] == 0 or strided[0] - strided[-1] > 1 or list(strided) != sorted(strided, reverse=True):
        wrong.append("the generations go from %d to %d" % (strided[0], strided[-1]))
    return wrong


def firsts(start, words):
    """The same with one word a page."""
    return generations(start, words, WORDS)


def counters(start, words):
    """The same while the lock on the last page is held; else all are equal."""
    wrong = firsts(start, words[:-WORDS]) + [index for index, word in enumerate(words[-WORDS:]) if word > (index == 0)]
    if not words[-WORDS] and words[0] != words[-2 * WORDS]:
        wrong.append("the counters differ, and the lock is free")
    return wrong


def halves(start, words):
    """Every other page was written; what is on the others is the file's."""
    contents = (0x2222_2222_2222_2222, 0x1111_1111_1111_1111)
    return [index for index, word in enumerate(words) if word != contents[index // WORDS % 2]]


def read(start, length):
    words = array.array("Q")
    words.frombytes(gdb.selected_inferior().read_memory(start, length).tobytes())
    return words


found = {}
for name, start, pages, pattern in wanted:
    found[name] = globals()[pattern](start, read(start, pages * PAGE))
print(json.dumps(found))
