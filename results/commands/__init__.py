"""The command line of `python -m results`, command by command.

A module holds the commands that need the same things: `accuracies` and `classes` read records, `protocols` reads folder
trees of published code, `inspection` rebuilds a run, `export` makes a file of one.  `command` says what a command is.
Whatever takes time to import is imported when a command runs, so that `--help` answers at once.
"""
