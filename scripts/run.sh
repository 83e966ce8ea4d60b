#!/bin/sh
# What every script calls: experiments.py with PYTHON, the active environment, or the checkout's own (`make` makes it).
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
if [ -n "$PYTHON" ]; then python=$PYTHON
elif [ -n "$VIRTUAL_ENV" ]; then python=python
elif [ -x "$here/../.venv/bin/python" ]; then python=$here/../.venv/bin/python
else python=python3
fi
exec "$python" "$here/experiments.py" "$@"
