"""Looking into one run: it is rebuilt from its folder, with its backbone, and asked something.

`transport` draws what each prompt is matched with, and `images` chooses the pictures for it; `claims` ranks the test
images by prompt; `words` looks for the vocabulary near the learned contexts; `maps` puts prompts and images in the
plane; `ablation` tests the same prompts under other matchings.  `rebuilt` is the run itself, as all of them take it.
"""
