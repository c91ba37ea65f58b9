"""Which rule a series falls under."""

import pytest
from pydicom.dataset import Dataset

from mrlift.io.facts import contrast_of, facts_of, is_ours
from mrlift.node.config import RuleConfig
from mrlift.node.rules import matching


def header(**values):
    data = Dataset()
    for name, value in values.items():
        setattr(data, name, value)
    return data


PROTOCOLS = [  # usual parameters: sequence, TR, TE, TI in ms
    ("T1", "SE", 500, 12, None),
    ("T1", ["GR", "IR"], 2300, 2.98, 900),
    ("T1", "GR", 8, 3, None),
    ("T1", ["SE", "IR"], 2000, 9, 860),
    ("T2", "SE", 4500, 100, None),
    ("PROTON_DENSITY", "SE", 3000, 30, None),
    ("FLUID_ATTENUATED", ["SE", "IR"], 9000, 120, 2500),
    ("T2_STAR", "GR", 700, 20, None),
    (None, "SE", None, 100, None),
]


@pytest.mark.parametrize(("contrast", "sequence", "tr", "te", "ti"), PROTOCOLS)
def test_contrast_of_usual_protocols(contrast, sequence, tr, te, ti):
    data = header(ScanningSequence=sequence, RepetitionTime=tr, EchoTime=te, InversionTime=ti)
    assert contrast_of(data) == contrast


def test_contrast_as_stated_goes_first():
    assert contrast_of(header(AcquisitionContrast="T2", EchoTime=3, RepetitionTime=5)) == "T2"
    assert contrast_of(header(AcquisitionContrast="PERFUSION", EchoTime=3)) is None
    assert contrast_of(header(DiffusionBValue=1000.0, EchoTime=90)) == "DIFFUSION"
    assert contrast_of(header(DiffusionBValue=0.0, EchoTime=90, RepetitionTime=4000)) == "T2"


def test_the_first_rule_that_fits_decides():
    skip = RuleConfig(description=("*LOCALIZER*", "scout*"), skip=True)
    t1 = RuleConfig(contrast=("T1",), spacing=(0.5, 1.2), model="a")
    rest = RuleConfig(description=("t2*",), model="b")
    rules = (skip, t1, rest)

    def facts(description, spacing, te=10):
        values = {} if spacing is None else {"PixelSpacing": spacing}
        return facts_of(
            header(SeriesDescription=description, EchoTime=te, RepetitionTime=500, **values)
        )

    assert matching(facts("3-plane Localizer", [1, 1]), rules) is skip
    assert matching(facts("t2 tse", [1, 1]), rules) is t1
    assert matching(facts("T2 TSE", [1, 1.5]), rules) is rest
    assert matching(facts("t2", None), rules) is rest
    assert matching(facts("flair", [2, 2]), rules) is None
    assert matching(facts("", None), (RuleConfig(),)) == RuleConfig()


def test_spacing_of_enhanced_objects():
    measures = header(PixelMeasuresSequence=[header(PixelSpacing=[0.7, 0.8])])
    for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        assert facts_of(header(**{name: [measures]})).spacing == 0.8


def test_own_outputs_are_known_by_their_equipment():
    assert is_ours(header(ContributingEquipmentSequence=[header(Manufacturer="mrlift")]))
    assert not is_ours(header(ContributingEquipmentSequence=[header(Manufacturer="ACME")]))
    assert not is_ours(header())
