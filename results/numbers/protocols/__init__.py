"""The protocols of this literature: results found by the folder names and logs of published code, and their tables.

`trees` finds the results of a protocol in a tree of run folders, with `logs` where there are no records; `grid` sorts
them into the cells of a table; `published` holds the figures that others printed, for beside it.
"""
