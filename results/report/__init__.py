"""The report: one HTML page that says what was run, what came out, and what is missing.

Everything comes from run records, and from the pictures that other commands left beside the runs, so the same records
give the same page.  It holds all that it shows: no script, no outside file.

`page.build_report` lists the sections.  Each section is a function that returns what is to be shown as plain data, or
None where there is nothing, and a template of the same name in `templates/`, which makes HTML of it.  jinja2 escapes
every text on the way (names come from folders and data sets that anybody may have named); only figures, which
`parts.figure` makes, are HTML already.
"""
