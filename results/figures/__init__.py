"""Numbers as pictures, drawn by matplotlib without pyplot, so that no display and no global state are involved.

`style` has what all share: type, colours, files and inline SVG; `fonts` finds characters that the usual font lacks.
`curves`, `collapse`, `classes`, `ablation` and `maps` lay themselves out; `heatmaps` and `claims` place panels of
fixed sizes on a `sheet`.  Every drawing function is called within `style.drawing()`.
"""
