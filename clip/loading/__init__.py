"""From names, addresses and files to a state dict in OpenAI's layout. Nothing here knows the model that it is for.

    weights                a file or folder -> state dict, activation, pixel statistics; what would be wrong is refused
    files, torchscript     containers: torch.save, safetensors, several parts, OpenAI's archives without their code
    layout                 OpenAI's names and shapes, which everything is read into
    transformers_layout    Hugging Face transformers' names, shapes and configs
    open_clip_table        open_clip's architectures
    published              weights that open_clip publishes, and repositories of the Hugging Face hub
    releases, digests      what OpenAI has published, and how its tensors are known in any container
    hub                    files of the Hugging Face hub
    download               one file from one address: checked, resumed, never half there

A check of what was read is part of reading: nothing is handed on that would load and compute something else.
"""
