"""A small world of drawn scenes: the project's own pictures, captions and few-shot task, made by a program.

    canvas.py    pen, ink and colours              objects.py   20 things made of named parts
    scenes.py    things in places: the photo world and the chalk world
    captions.py  what can be said about a scene    task.py      the few-shot task, written to disk
    worlds.py    worlds with knobs, for controlled experiments

Everything follows from seed strings; nothing is downloaded. For a look: python -m demo --help
"""

import dassl  # noqa: F401  (before torch: how its threads wait)

from .captions import caption, part_phrase
from .scenes import Scene, chalk_scene, photo_scene
from .task import CLASSES, VERSION, write_task

__all__ = ["CLASSES", "VERSION", "Scene", "caption", "chalk_scene", "part_phrase", "photo_scene", "write_task"]
