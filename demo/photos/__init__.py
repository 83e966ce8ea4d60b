"""How the small CLIP for photographs is made of pieces with open licences; `demo.train_photos` is the command line.

    pieces.py   what is read: a classifier of photographs, text embeddings of names, word vectors
    names.py    the joint space, and where in it every name that is taught belongs
    image.py    from the trunk's features to the joint space, without a photograph
    text.py     the text tower: how its layers start, and what lets contexts steer
    course.py   the distillation of the names into the text tower

No photograph of an evaluation is used, nor a label of one.  Axis letters: K names, T tokens, F = 1280 channels of the
trunk, D = 256 dimensions of the joint space, E token width.
"""
