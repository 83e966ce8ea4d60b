"""What needs neither torch nor a configuration: files and texts.

Programs that only look at results import from here, and start at once.
"""
