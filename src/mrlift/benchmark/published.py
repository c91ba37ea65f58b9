"""What the paper prints: PSNR (dB) and SSIM of Tables 1 and 2 and its summary, seconds of Table 3.

Source: Xia et al. 2020, see `mrlift.networks.mrl`. None where the printed figure cannot be read.
"""

Pair = tuple[float, float | None]

# The paper's seven methods, in the order of its columns.
PAPER = ("bicubic", "srcnn", "espcn", "fsrcnn", "de-cnn", "fscwn", "mrl")
NAMES = {
    "bicubic": "bicubic",
    "srcnn": "SRCNN",
    "espcn": "ESPCN",
    "fsrcnn": "FSRCNN",
    "de-cnn": "de-CNN",
    "fscwn": "FSCWN",
    "span": "SPAN",
    "edsr": "EDSR-baseline",
    "mrl": "MRL (paper)",
    "mrl-single": "MRL, single upsampling",
    "mrl-double": "MRL, double upsampling",
    "mrlift": "MRL on mrlift",
}

TABLE_1: dict[str, Pair] = {
    "mrl-single": (45.33, 0.9899),
    "mrl-double": (45.56, 0.9943),
    "mrl": (45.67, 0.9945),
}
TABLE_2: dict[int, dict[str, Pair]] = {
    2: {
        "bicubic": (40.55, 0.9871),
        "srcnn": (44.96, 0.9775),
        "espcn": (44.39, 0.9659),
        "fsrcnn": (43.46, 0.9908),
        "de-cnn": (44.26, None),
        "fscwn": (44.03, None),
        "mrl": (46.56, 0.9987),
    },
    3: {
        "bicubic": (35.12, 0.9414),
        "srcnn": (36.73, 0.9610),
        "espcn": (36.27, 0.9545),
        "fsrcnn": (37.52, 0.9657),
        "de-cnn": (36.34, 0.9641),
        "mrl": (38.75, 0.9696),
    },
    4: {
        "bicubic": (32.31, 0.9216),
        "srcnn": (33.92, 0.9320),
        "espcn": (33.53, 0.9338),
        "fsrcnn": (34.25, 0.9320),
        "de-cnn": (32.60, 0.9344),
        "mrl": (35.39, 0.9389),
    },
}
SUMMARY: dict[int, Pair] = {2: (45.46, 0.9914), 3: (37.65, 0.9689), 4: (34.09, 0.9397)}
TABLE_3: dict[int, dict[str, float]] = {
    2: {"srcnn": 0.23, "fsrcnn": 0.13, "espcn": 0.05, "de-cnn": 1.16, "fscwn": 1.29, "mrl": 1.02},
    3: {"srcnn": 0.21, "fsrcnn": 0.08, "espcn": 0.04, "de-cnn": 1.14, "mrl": 0.47},
    4: {"srcnn": 0.24, "fsrcnn": 0.07, "espcn": 0.03, "de-cnn": 1.13, "mrl": 0.32},
}


def published_gain(method: str, scale: int) -> float | None:
    """Of Table 2, PSNR above its bicubic interpolation, dB."""
    table = TABLE_2[scale]
    return table[method][0] - table["bicubic"][0] if method in table else None


def summary_gain(scale: int) -> float:
    """Of the paper's summary, PSNR of its own network above Table 2's bicubic, dB."""
    return SUMMARY[scale][0] - TABLE_2[scale]["bicubic"][0]
