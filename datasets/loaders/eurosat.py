"""EuroSAT (Helber et al., 2019): satellite pictures of 10 uses of land, in colour.

DATASET.ROOT/eurosat/2750/<class>/<class>_<number>.jpg and eurosat/split_zhou_EuroSAT.json.
"""

from dassl.data.datasets import DATASET_REGISTRY

from ..base import SplitDataset
from ..published import Download, Published


@DATASET_REGISTRY.register()
class EuroSAT(SplitDataset):
    """Square cuts of 64 pixels from Sentinel-2's pictures, in red, green and blue.

    Class names say in words what the folders' names abbreviate.

    References
    ----------
    P. Helber, B. Bischke, A. Dengel and D. Borth, "EuroSAT: A novel dataset and deep learning benchmark for land
    use and land cover classification", JSTARS 2019
    """

    config, table_name, benchmark, order = "eurosat", "EuroSAT", "fewshot", 10
    dataset_dir = "eurosat"
    image_folder = "2750"
    split_file = "split_zhou_EuroSAT.json"
    class_names = {
        "AnnualCrop": "Annual Crop Land", "HerbaceousVegetation": "Herbaceous Vegetation Land",
        "Highway": "Highway or Road", "Industrial": "Industrial Buildings", "Pasture": "Pasture Land",
        "PermanentCrop": "Permanent Crop Land", "Residential": "Residential Buildings", "SeaLake": "Sea or Lake",
    }  # fmt: skip
    template = "a centered satellite photo of {}."
    # Six words in the last two: contexts are as long as the first start, and the sixth word stays fixed.
    prompt_starts = (
        "a centered satellite photo of", "a centered satellite picture of",
        "this is centered satellite photo of", "one centered satellite photo of a",
    )  # fmt: skip
    published = Published(
        counts=(13_500, 5_400, 8_100), classes=10, base_new_test=(4_200, 3_900),
        images="EuroSAT.zip of EuroSAT, the RGB version: a folder 2750, with one folder a class",
        names_sha256="bcff3a8022b63397730ecbb798e13cf58822547521ea94ed2975f05971b28da3",
        split_drive_id="1Ip7yaCWFi0eaOFUGga0lUdVi_DDQth1o",
        split_sha256="7f5d4f79bba4f67d1ed4bc0b5fbafab565564c6ff8205b82d893897db0d8015b",
        aliases=("EuroSAT", "euro_sat", "eurosat-rgb"),
        image_aliases=("EuroSAT_RGB", "EuroSAT"),
        image_holds="AnnualCrop",
        picks={(1, 1): ("d6006726878ea0f4", "eeed29c79f67e632"), (16, 1): ("ad68353e38faf187", "55532c62e6fd925a")},
    )
    downloads = (
        # TorchGeo's copy of the first version, which has the folder 2750; torchvision takes it from there, too
        Download(
            "images",
            "https://huggingface.co/datasets/torchgeo/eurosat/resolve/c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
            md5="c8fa014336c82ac7804f0398fcb19387", gives={"2750": "2750"}, gigabytes=0.09,
            otherwise="also at https://zenodo.org/records/7711810, as EuroSAT_RGB.zip; call its folder {folder}/2750",
        ),
    )
