"""Features of a frozen image tower on disk: computed once, read by every later test, process and machine.

An entry is a folder named by a digest of everything that the features depend on (`key_of`), and holds

    pooled.bin   (n, D), and where places are wanted
    local.bin    (n, M, D), both raw in the tower's number format, in the order of the images
    entry.json   shapes, sizes, checksums, and what the key was made of; its modification time is the last use

    store        the folder of all entries: opening, building, making room
    reading      an entry whose files are open, although others may take it away
    writing      an entry that comes into being, batch by batch, under another name
    keys         what features depend on
    files        names of files, and how a folder is taken away

An entry is renamed when it is complete, so a build that was killed leaves nothing that looks complete.  Sizes are
compared at every opening; the checksums at the first one of each process, which costs about as much as reading the
files.  Whatever does not fit is removed, and built again.

The folder may lie on a network file system.  Nothing depends on its locks, clocks or directory listings being right:
they only save the work of encoding the same images twice.

This package knows nothing of data sets, and decides nothing about when features may be reused.
"""
from .files import remove
from .keys import key_of, tower_digest
from .reading import Damaged, StoredFeatures
from .store import Entry, FeatureStore
from .writing import Writer

__all__ = [
    "Damaged", "Entry", "FeatureStore", "StoredFeatures", "Writer", "key_of", "remove", "tower_digest",
]
