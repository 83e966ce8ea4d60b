"""Installs two packages, the engine `dassl` and `plot` (PLOT from Python), and the command `plot`.

`trainers`, `datasets`, `clip`, `predict`, `results`, `runs` are used from the checkout, where `plot` finds them: those
names belong to other packages on many machines, and every plugin repository of this family brings its own.
"""
from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="plot-prompt-learning",
    version="0.1.0",
    description="Prompt learning with optimal transport for vision-language models, and the engine it runs on",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=find_packages(include=["dassl", "dassl.*", "plot"]),
    entry_points={"console_scripts": ["plot = plot.__main__:main"]},
    package_data={"dassl": ["py.typed"], "plot": ["py.typed"]},  # its annotations are for type checkers of plugins, too
    install_requires=[
        "torch>=2.4",
        "torchvision>=0.19",  # pip resolves torch and torchvision together: they must be one matching pair
        "open_clip_torch>=2.24",  # tokenizer, vocabulary, registry of weights, downloads
        "huggingface_hub>=0.23",  # files of the hub; open_clip needs it too, of any version
        "safetensors>=0.4",
        "yacs>=0.1.8",
        "numpy>=1.24",
        "pillow>=9.4",
        "tabulate>=0.9",
        "filelock>=4.0",  # older ones wait for ever for a lock of their own process, or that a forked child holds
        "wcwidth>=0.2.6",  # columns of a terminal that a text takes; tabulate asks it too
        "tqdm>=4.65",
        "jinja2>=3.1",  # pages of the report; torch has it too
        "scikit-learn>=1.3",  # the proportional draw of few-shot images, and metrics
        "scipy>=1.10",  # tests of differences, temperatures
        "matplotlib>=3.10",  # whose SVG a browser draws in the fonts that it was laid out with
    ],
    extras_require={
        "tensorboard": ["tensorboard>=2.12"],
        "parquet": ["pyarrow>=12"],  # predictions for other programs
        "heic": ["pillow-heif>=0.13"],  # pictures of Apple's phones
        "cluster": ["submitit>=1.5"],  # many runs on Slurm
        "test": ["pytest>=7.4", "pytest-xdist>=3.3", "hypothesis>=6.90", "pot>=0.9.3",
                 "tensorboard>=2.12", "pillow-heif>=0.13", "pyarrow>=12", "submitit>=1.5",
                 "statsmodels>=0.14",  # a second opinion on tests of differences
                 "transformers>=4.40"],  # whose CLIPModel its layout is compared with; none older was tried
        "dev": ["ruff>=0.6", "mypy>=1.8", "types-tabulate", "types-PyYAML", "types-tqdm"],
    },
)
