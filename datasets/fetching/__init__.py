"""Getting what a data set lacks.

`downloads` says what is missing, `sources` where it comes from, `checks` how the right file is recognised, and `fetch`
downloads, unpacks and places it.
"""

MIRROR = "DATASETS_MIRROR"  # environment variable: the address of a mirror, see `sources`
