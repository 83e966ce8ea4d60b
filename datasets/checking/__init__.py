"""Finding out whether a copy of a data set on disk is complete, and the published one.

`check` compares published data sets with what was published; `own_pictures` looks through the user's own.
"""
