"""Image features that were computed before: what a frozen tower says of an image is never asked twice.

code     which code image features depend on
views    training on kept views of the images
cache    the store's entries for whatever a loader loads
"""
