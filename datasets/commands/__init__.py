"""What `python -m datasets check`, `fetch` and `picks` do; a module a command, with a `run(options)`."""
