"""Getting what a data set lacks.

`downloads` says what is missing, `sources` where it comes from, `checks` how the right file is recognised, and `fetch`
downloads, unpacks and places it. `command` is `python -m datasets fetch`.
"""

MIRROR = "DATASETS_MIRROR"  # environment variable: the address of a mirror, see `sources`
