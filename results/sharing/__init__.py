"""Learned prompts for others: the card that describes an exported file, and the way to the Hugging Face hub.

`card` writes the card from what the run has recorded, `published` compares its settings with the published ones, and
`push` uploads the two files, and nothing else.
"""
