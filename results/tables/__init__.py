"""Numbers as text, Markdown, LaTeX or CSV.

`layout` knows the four formats and nothing of what is shown; each other module turns one kind of number into its blocks
and CSV lines.  Text for readers is rounded and says how many runs stand behind it; CSV is at full precision.
"""
