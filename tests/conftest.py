"""Settings of the whole suite."""
import torch

torch.set_num_threads(1)  # the tests' models are tiny: a second thread costs more than it brings
