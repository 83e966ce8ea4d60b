"""How the demo's two CLIPs are trained; `demo.train_resnet` and `demo.train_vit` are the command lines.

flags.py     the flags that both have; needs no torch
pictures.py  scenes as tensors: drawing, normalising, cropping
course.py    what both trainings share: the loop, the probe, the file
resnet.py    the course on captions             vit.py      the course on a teacher's features
"""
