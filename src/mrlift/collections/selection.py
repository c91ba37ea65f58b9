"""Which series of a collection are native anatomical MR, told from what an index knows of them.

An index has no ImageType: the SeriesDescription decides. A series is taken when its contrast is
recognised and nothing speaks against it, so that an unknown kind is left out rather than in.
"""

import re
from collections import Counter
from dataclasses import dataclass

from mrlift.collections.index import IndexedSeries
from mrlift.errors import InputError

CLASSIC_MR = "1.2.840.10008.5.1.4.1.1.4"  # MR Image Storage
FEWEST_IMAGES = 10  # localisers have three to nine
OPEN = re.compile(r"CC0.*|CC BY \d\.\d|public domain.*|PDDL.*", re.IGNORECASE)

# Tried in this order on the description in lower case, with every run of other characters than
# letters, digits and + made one blank.
UNSUITABLE = {
    "localiser or calibration": re.compile(
        r"\b(loc|locali[sz]ers?|(aa)?scout|aahead\w*|survey|(three|3) ?pl(ane)?|"
        r"cal(ib\w*)?|asset|shim\w*|b1( ?map)?|field ?map\w*)\b"
    ),
    "diffusion, perfusion, functional or angiography": re.compile(
        r"\b(ep2d|ep|epi|dti|dwi|diff\w*|mddw|perf\w*|dsc|dce|bolus|bold|fmri|p?c?asl|tof|mr[av]|"
        r"angio\w*|venc|svs|csi|mrs|spectro\w*|tracto\w*|directions?|dirs?)\b"
    ),
    "computed map or picture": re.compile(
        r"\b([de]?adc\w*|fa|colfa|trace\w*|exp|tensor|\w*cb[vf]\w*|mtt\w*|ttp\w*|tmax\w*|"
        r"ktrans\w*|\w*maps?|mip|minip|sub|subtr\w*|swi|pha(se)?|\w*masks?|seg\w*|dt1\w*|"
        r"mean|average|screen\w*|report|phoenix\w*)\b"
    ),
    "MP2RAGE, which may be the computed uniform image": re.compile(r"\bmp2rage"),
}
PROCESSED = re.compile(
    r"process|captk|\bdis[23]d\b|\w*reg\b|regist|resampl|reslic|reformat|skull|strip|deface|"
    r"surg ?nav|surgical ?nav|dynasuite"
)
CONTRASTS = {
    "T1": re.compile(r"(?<![a-z])t1|mp ?rage|\bspgr|\bbravo"),
    "FLAIR": re.compile(r"flair|\btirm|dark ?fluid"),
    "T2": re.compile(r"(?<![a-z])t2(?! ?star)"),
    "PD": re.compile(r"\bpd\b|\bpdw|proton"),
}
CONTRAST_AGENT = re.compile(r"post|\bgad|\bgd\b|(?<!pre)contrast|\bkm\b|\bc\+|\+c\b|\bce\b")
THREE_D = re.compile(r"3d|mp ?rage|\bmpr\b|\bspace\b|bravo|\bcube\b|\bvibe\b|stealth")
TWO_D = re.compile(r"2d|blade|propeller")


@dataclass(frozen=True)
class Selection:
    """The series to take, each with its kind, and how many were left out for which reason."""

    chosen: tuple[tuple[IndexedSeries, str], ...]
    left_out: Counter[str]

    @property
    def series(self) -> list[IndexedSeries]:
        """The chosen series without their kinds."""
        return [series for series, _ in self.chosen]

    def only(self, uids: set[str], reason: str) -> "Selection":
        """The selection without the series that are not in `uids`."""
        kept = tuple(pair for pair in self.chosen if pair[0].uid in uids)
        return Selection(kept, self.left_out + Counter({reason: len(self.chosen) - len(kept)}))


def select(
    series: list[IndexedSeries],
    *,
    processed: bool = False,
    any_licence: bool = False,
    patients: int | None = None,
) -> Selection:
    """The native anatomical MR series among `series`.

    Args:
        series: of one collection.
        processed: also those whose description says that they were processed (registered,
            resampled, corrected for distortion, defaced).
        any_licence: also those that forbid commercial use or state terms of their own.
        patients: no more than this many, the first in the order of their PatientID.

    Raises:
        InputError: none is left.
    """
    left_out: Counter[str] = Counter()
    chosen = []
    for one in series:
        reason = _against(one, processed=processed, any_licence=any_licence)
        if reason:
            left_out[reason] += 1
        else:
            chosen.append((one, kind_of(one.description)))
    if not chosen:
        raise InputError(_nothing(left_out))
    if patients is not None:
        first = sorted({one.patient for one, _ in chosen})[:patients]
        kept = [pair for pair in chosen if pair[0].patient in first]
        if len(kept) < len(chosen):
            left_out["of further patients"] = len(chosen) - len(kept)
        chosen = kept
    return Selection(tuple(chosen), left_out)


def kind_of(description: str) -> str:
    """Contrast and acquisition in words, such as "T1 post-contrast 3-D"; "" if not recognised."""
    text = _normal(description)
    contrast = next((name for name, mark in CONTRASTS.items() if mark.search(text)), "")
    if contrast == "T1" and CONTRAST_AGENT.search(text):
        contrast = "T1 post-contrast"
    return (contrast + _dimension(text)) if contrast else ""


def _dimension(text: str) -> str:
    if THREE_D.search(text):
        return " 3-D"
    return " 2-D" if TWO_D.search(text) else ""


def _against(one: IndexedSeries, *, processed: bool, any_licence: bool) -> str:
    if one.modality != "MR":
        return f"{one.modality or 'no modality'}, not MR"
    if one.sop_class != CLASSIC_MR:
        return "not classic MR images"
    if one.derived_by:
        return "computed from the collection's images"
    if not (any_licence or OPEN.fullmatch(one.licence)):
        return f"licence {one.licence}"
    text = _normal(one.description)
    for reason, mark in UNSUITABLE.items():
        if mark.search(text):
            return reason
    if PROCESSED.search(text) and not processed:
        return "processed"
    if not kind_of(one.description):
        return "contrast not recognised"
    return f"fewer than {FEWEST_IMAGES} images" if one.images < FEWEST_IMAGES else ""


def _normal(description: str) -> str:
    return re.sub(r"[^a-z0-9+]+", " ", description.lower().replace("t2*", "t2 star")).strip()


def _nothing(left_out: Counter[str]) -> str:
    hints = []
    if left_out["processed"]:
        hints.append("Pass --processed to take what was processed.")
    if any(reason.startswith("licence ") for reason in left_out):
        hints.append("Pass --any-licence to take series under these licences.")
    found = [f"  {number} {reason}" for reason, number in left_out.most_common()]
    return "\n".join(
        ["Expected native anatomical MR series, found none. Left out:", *found, *hints]
    )
