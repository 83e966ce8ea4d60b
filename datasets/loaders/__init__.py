"""The data sets, one module each (ImageNet's variants share one). `datasets` imports every module of this folder.

A loader names its places and how to split without a split file, and declares what is known of the data set: see
`datasets.base.SplitDataset`. A module that is put into this folder is found by itself; its config file in
configs/datasets/ is all else that it takes.
"""

VGG = "https://www.robots.ox.ac.uk/~vgg/data"  # host of three of them
