"""From files and addresses to a state dict in OpenAI's layout. Nothing here knows the model that it is for.

weights        a file of any layout -> state dict, activation, pixel statistics
torchscript    OpenAI's archives, without running their code
layout         OpenAI's names and shapes, which everything is read into
download       one file from one address: checked, resumed, never half there
"""
