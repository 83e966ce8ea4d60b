"""OpenAI's nine releases: their archives, and open_clip's copies of them on the Hugging Face hub.

The archives carry their SHA-256 in their addresses, which have answered 404 since the end of 2025. open_clip's copies
hold the same tensors in a file of another format; `architecture` is the name that open_clip lists them under, with the
tag "openai".
"""
from __future__ import annotations

from dataclasses import dataclass

from .download import MODELS_URL


@dataclass(frozen=True)
class Release:
    """One model that OpenAI has published.

    Attributes
    ----------
    name
        As `clip.load` takes it.
    file
        Name of the archive.
    sha256
        Of the archive.
    architecture
        open_clip's name for it.
    repository
        Of open_clip's copy on the hub.
    """

    name: str
    file: str
    sha256: str
    architecture: str
    repository: str

    @property
    def url(self) -> str:
        """OpenAI's address of the archive."""
        return f"{MODELS_URL}/{self.sha256}/{self.file}"


_TABLE = (
    Release("RN50", "RN50.pt",
            "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762",
            "RN50", "timm/resnet50_clip.openai"),
    Release("RN101", "RN101.pt",
            "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599",
            "RN101", "timm/resnet101_clip.openai"),
    Release("RN50x4", "RN50x4.pt",
            "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd",
            "RN50x4", "timm/resnet50x4_clip.openai"),
    Release("RN50x16", "RN50x16.pt",
            "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa",
            "RN50x16", "timm/resnet50x16_clip.openai"),
    Release("RN50x64", "RN50x64.pt",
            "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c",
            "RN50x64", "timm/resnet50x64_clip.openai"),
    Release("ViT-B/32", "ViT-B-32.pt",
            "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
            "ViT-B-32", "timm/vit_base_patch32_clip_224.openai"),
    Release("ViT-B/16", "ViT-B-16.pt",
            "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
            "ViT-B-16", "timm/vit_base_patch16_clip_224.openai"),
    Release("ViT-L/14", "ViT-L-14.pt",
            "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
            "ViT-L-14", "timm/vit_large_patch14_clip_224.openai"),
    Release("ViT-L/14@336px", "ViT-L-14-336px.pt",
            "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
            "ViT-L-14-336", "timm/vit_large_patch14_clip_336.openai"),
)
RELEASES = {release.name: release for release in _TABLE}
