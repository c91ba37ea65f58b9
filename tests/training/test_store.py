"""Slice stores: what goes in comes out, and memory does not grow."""

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

h5py = pytest.importorskip("h5py", reason="training needs the train extra")
pytest.importorskip("torch", reason="training needs the train extra")

from conftest import ROOT  # noqa: E402
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from phantoms import PEAK, head, head_volume, write_series  # noqa: E402
from runs import phantom_store, recipe  # noqa: E402

import mrlift  # noqa: E402
from mrlift.errors import ConfigError, InputError  # noqa: E402
from mrlift.resampling import kspace_resize  # noqa: E402
from mrlift.training.patches import PatchSampler  # noqa: E402
from mrlift.training.prepare import Rules, divide, prepare  # noqa: E402
from mrlift.training.sources import contrast_of, load_sources  # noqa: E402
from mrlift.training.store import SliceStore  # noqa: E402


@pytest.fixture
def folder(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for name in ("a_T1w", "b_T2w", "c_FLAIR"):
        mrlift.save(head_volume((40, 48, 6)), source / f"{name}.nii.gz")
    write_series(
        source / "dicom" / "x", PatientID="d", SeriesDescription="t2 tse", voxels=head((40, 36, 4))
    )
    return source


class TestPrepare:
    def test_a_mix_of_formats(self, folder, tmp_path):
        outcome = prepare([folder], tmp_path / "s.h5", Rules())
        assert not outcome.skipped
        store = SliceStore(tmp_path / "s.h5")
        assert [r.name for r in store.records] == ["a_T1w", "b_T2w", "c_FLAIR", "dicom/x"]
        assert [r.patient for r in store.records] == ["a", "b", "c", "d"]
        assert [r.contrast for r in store.records] == ["T1", "T2", "FLAIR", "T2"]
        assert store.shapes == [(6, 40, 48)] * 3 + [(4, 40, 36)]
        assert store.records[0].spacing == pytest.approx((0.9, 0.8))
        assert sum(r.split == "validation" for r in store.records) == 1

    def test_intensities_are_kept(self, folder, tmp_path):
        """Unsigned 16-bit values exactly; others to half a step of their range."""
        volume = mrlift.load(folder / "a_T1w.nii.gz")
        floats = volume.voxels.astype(np.float32) / 7 - 3
        mrlift.save(mrlift.Volume(floats, volume.affine), folder / "e.nii")
        prepare([folder], tmp_path / "s.h5", Rules())
        store = SliceStore(tmp_path / "s.h5")
        for number, path in ((0, "a_T1w.nii.gz"), (4, "e.nii")):
            record = store.records[number]
            original = mrlift.load(folder / path).slices()
            for index in range(6):
                found = store.read(number, index) * record.unit
                np.testing.assert_allclose(found, original[index], atol=record.slope * 0.51)
        assert store.records[0].slope == 1.0

    def test_a_rectangle_is_a_part_of_the_slice(self, folder, tmp_path):
        prepare([folder], tmp_path / "s.h5", Rules())
        store = SliceStore(tmp_path / "s.h5")
        part = store.read(1, 2, slice(3, 30), slice(10, 11))
        np.testing.assert_array_equal(part, store.read(1, 2)[3:30, 10:11])

    def test_air_is_left_out(self, tmp_path):
        (tmp_path / "in").mkdir()
        voxels = head((40, 48, 6))
        voxels[..., :2] = 0
        mrlift.save(mrlift.Volume(voxels, np.eye(4)), tmp_path / "in" / "a.nii")
        outcome = prepare([tmp_path / "in"], tmp_path / "s.h5", Rules())
        assert outcome.records[0].slices == (2, 3, 4, 5)

    def test_what_cannot_be_used_is_named_and_the_rest_kept(self, folder, tmp_path):
        (folder / "broken.nii").write_bytes(b"no")
        mrlift.save(head_volume((20, 20, 3)), folder / "small.nii")
        write_series(folder / "ct", Modality="CT")
        outcome = prepare([folder], tmp_path / "s.h5", Rules())
        assert set(outcome.skipped) == {"broken", "small", "ct"}
        assert len(outcome.records) == 4

    def test_several_series_in_a_folder(self, folder, tmp_path):
        for uid in ("1.2.3", "1.2.4"):
            write_series(folder / "two" / uid, head((40, 36, 4)), series=uid, PatientID="d")
        for file in (folder / "two").rglob("*.dcm"):
            file.rename(folder / "two" / f"{file.parent.name}-{file.name}")
        outcome = prepare([folder], tmp_path / "s.h5", Rules())
        assert [r.name for r in outcome.records[-2:]] == ["two:1.2.3", "two:1.2.4"]

    def test_nothing_to_store_leaves_nothing(self, tmp_path):
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "broken.nii").write_bytes(b"no")
        with pytest.raises(InputError, match=r"No usable series.*broken"):
            prepare([tmp_path / "in"], tmp_path / "s.h5", Rules())
        assert [p.name for p in tmp_path.iterdir()] == ["in"]

    def test_a_store_is_a_function_of_its_input(self, folder, tmp_path):
        for name in ("s.h5", "t.h5"):
            prepare([folder], tmp_path / name, Rules())
        assert (tmp_path / "s.h5").read_bytes() == (tmp_path / "t.h5").read_bytes()


class TestSpectrum:
    def test_interpolated_series_are_flagged_and_brought_back(self, tmp_path):
        """As a scanner does: 128 x 96 measured, filled up to 128 x 128."""
        (tmp_path / "in").mkdir()
        rng = np.random.default_rng(0)
        measured = head((128, 96, 8), seed=1) + rng.normal(0, 20, (128, 96, 8))
        planes = [kspace_resize(measured[..., k], 128, 128) for k in range(8)]
        voxels = np.abs(np.stack(planes, axis=-1)).astype(np.uint16)
        mrlift.save(mrlift.Volume(voxels, np.diag([1.0, 0.75, 4.0, 1.0])), tmp_path / "in/a.nii")
        outcome = prepare([tmp_path / "in"], tmp_path / "s.h5", Rules())
        assert outcome.records[0].interpolated
        assert outcome.records[0].filled == (1.0, pytest.approx(0.75, abs=0.04))
        outcome = prepare([tmp_path / "in"], tmp_path / "c.h5", Rules(crop_spectrum=True))
        store = SliceStore(tmp_path / "c.h5")
        _, rows, columns = store.shapes[0]
        assert rows == 128
        assert columns == pytest.approx(96, abs=4)
        assert outcome.records[0].spacing == pytest.approx((1.0, 0.75 * 128 / columns))
        assert not outcome.records[0].interpolated


class TestSplit:
    @given(
        st.sets(st.text("abc", min_size=1, max_size=6), min_size=1, max_size=40),
        st.floats(0, 0.5), st.floats(0, 0.4), st.integers(0, 5),
    )  # fmt: skip
    def test_every_patient_has_one_part_and_some_are_trained_on(self, patients, held, aside, seed):
        rules = Rules(validation=held, test=aside, seed=seed)
        parts = divide(patients, rules, {})
        assert set(parts) == patients
        assert "train" in parts.values()
        assert parts == divide(patients.copy(), rules, {})
        if held and len(patients) > 1:
            assert "validation" in parts.values()

    def test_named_patients(self, folder, tmp_path):
        (folder / "sources.toml").write_text('validation = ["b"]\ntest = ["d"]\n')
        outcome = prepare([folder], tmp_path / "s.h5", Rules())
        assert [r.split for r in outcome.records] == ["train", "validation", "train", "test"]

    def test_a_split_by_series(self, folder, tmp_path):
        """As `data download --split paper --split-by series` writes it."""
        write_series(folder / "dicom" / "y", head((40, 36, 4)), series="1.2.9", PatientID="d")
        (folder / "sources.toml").write_text('[[source]]\nmatch = "dicom/y/**"\nname = "Y"\n')
        (folder / "split.toml").write_text('[train]\n[test]\nseries = ["dicom/y", "b_T2w.nii.gz"]')
        outcome = prepare([folder], tmp_path / "s.h5", Rules(validation=0.0))
        assert [r.split for r in outcome.records] == ["train", "test", "train", "train", "test"]
        assert outcome.records[4].source == "Y"
        (folder / "split.toml").write_text("[test]")
        with pytest.raises(ConfigError, match=r"test\.series"):
            prepare([folder], tmp_path / "t.h5", Rules())

    def test_a_name_of_nobody(self, folder, tmp_path):
        """Or the patient that it was to hold out would be trained on."""
        (folder / "sources.toml").write_text('validation = ["b"]\ntest = ["patient-d"]\n')
        with pytest.raises(
            ConfigError, match=r"no usable series of patient-d,.*found are a, b, c, d"
        ):
            prepare([folder], tmp_path / "s.h5", Rules())
        assert not (tmp_path / "s.h5").exists()

    def test_everybody_held_out(self, folder, tmp_path):
        (folder / "sources.toml").write_text('validation = ["a", "b", "c", "d"]\n')
        with pytest.raises(InputError, match="leave some to train on"):
            prepare([folder], tmp_path / "s.h5", Rules())

    def test_shares_that_leave_nobody(self):
        with pytest.raises(InputError, match="shares"):
            Rules(validation=0.6, test=0.4)


class TestPatientsByName:
    @staticmethod
    def outcome(tmp_path, *names):
        for name in names:
            (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
            mrlift.save(head_volume((40, 48, 2)), tmp_path / "in" / name)
        return prepare([tmp_path / "in"], tmp_path / "s.h5", Rules())

    def test_a_contrast_is_no_patient(self, tmp_path):
        found = self.outcome(
            tmp_path, "p1/T1.nii.gz", "p1/t1ce_brain.nii", "p2/FLAIR.nii", "p2/PD012_T1.nii.gz"
        )
        assert [r.patient for r in found.records] == ["p1", "p1", "p2", "PD012"]
        assert not found.doubtful

    def test_one_name_for_several_folders_is_doubtful(self, tmp_path):
        found = self.outcome(
            tmp_path,
            "x_1/x_1_t1.nii",
            "x_2/x_2_t1.nii",
            "y/anat/T1.nii",
            "z/anat/T1.nii",
            "w_1.nii",
        )
        assert {r.patient for r in found.records} == {"x", "anat", "w"}
        assert found.doubtful == {"x": 2, "anat": 2}

    @pytest.mark.slow
    def test_the_commands_say_so_in_whole_words(self, tmp_path):
        """Also where the output is a pipe, for which some programs take 80 columns."""
        long = "a-series-with-a-name-of-some-length-as-scanners-give-them_" + 60 * "x"
        self.outcome(tmp_path, f"p1/same_{long}.nii", f"p2/same_{long}.nii", "q_T1.nii")
        commands = {}
        for command in ("prepare in -o t.h5", "info t.h5"):
            commands[command] = subprocess.run(
                [sys.executable, "-m", "mrlift", "data", *command.split()],
                cwd=tmp_path, capture_output=True, text=True, check=True,
            )  # fmt: skip
        prepared, shown = commands.values()
        assert "Files in 2 folders count as one patient's, same" in prepared.stderr
        for words in (f"p2/same_{long}", "validation", "not stated", "k-space filled"):
            assert words in shown.stdout
        assert "…" not in shown.stdout

    def test_sessions_of_one_patient_are_not(self, tmp_path):
        names = [f"sub-{s}/ses-{k}/anat/sub-{s}_ses-{k}_T1w.nii" for s in "ab" for k in "12"]
        found = self.outcome(tmp_path, *names)
        assert {r.patient for r in found.records} == {"sub-a", "sub-b"}
        assert not found.doubtful


class TestSources:
    def test_collections_licences_patients_and_slices(self, folder, tmp_path):
        (folder / "sources.toml").write_text(
            """
[[source]]
match = "dicom/*"
name = "Hospital"
licence = "private"
patient = 'dicom/(.)'

[[source]]
match = "*_T?w*"
name = "Open"
licence = "CC0"
exclude = [1, 4]
"""
        )
        records = prepare([folder], tmp_path / "s.h5", Rules()).records
        assert [r.source for r in records] == ["Open", "Open", "not stated", "Hospital"]
        assert records[0].licence == "CC0"
        assert records[0].slices == (0, 4, 5)
        assert records[3].patient == "x"

    def test_the_nearest_sheet_counts(self, folder, tmp_path):
        (folder / "sources.toml").write_text('[[source]]\nname = "far"\n')
        (folder / "dicom" / "sources.toml").write_text('[[source]]\nname = "near"\n')
        records = prepare([folder], tmp_path / "s.h5", Rules()).records
        assert [r.source for r in records] == ["far", "far", "far", "near"]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a = = 1", "not valid TOML"),
            ("[[sources]]\n", "Did you mean 'source'"),
            ("[[source]]\nlicense = 'x'\n", "Did you mean 'licence'"),
            ("[source]\nname = 'x'\n", "expected a list"),
            ("[[source]]\nexclude = [1]\n", "expected 2 values"),
            ("[[source]]\npatient = '('\n", "source.patient"),
            ("validation = 'a'\n", "expected a list"),
        ],
    )
    def test_mistakes_are_named(self, tmp_path, text, message):
        (tmp_path / "sources.toml").write_text(text)
        with pytest.raises(ConfigError, match=message):
            load_sources(tmp_path / "sources.toml", tmp_path)

    def test_a_pattern_that_finds_nobody(self, folder, tmp_path):
        (folder / "sources.toml").write_text("[[source]]\npatient = 'nobody'\n")
        with pytest.raises(ConfigError, match="names no patient"):
            prepare([folder], tmp_path / "s.h5", Rules())

    @pytest.mark.parametrize(
        ("name", "contrast"),
        [
            ("patient12_study1_T2W.nii.gz", "T2"), ("sub-01_T1w.nii.gz", "T1"),
            ("t1gd.nii.gz", "T1Gd"), ("brain_t1_gd.nii", "T1Gd"), ("x_FLAIR.nii", "FLAIR"),
            ("t2_flair.nii", "FLAIR"), ("sag_mprage.nii", "T1"), ("scan.nii", "other"),
        ],
    )  # fmt: skip
    def test_contrasts_by_name(self, tmp_path, name, contrast):
        assert contrast_of(tmp_path / name, head_volume()) == contrast


class TestReading:
    def test_damaged_and_foreign_files(self, tmp_path):
        with pytest.raises(InputError, match="There is no slice store"):
            SliceStore(tmp_path / "none.h5")
        (tmp_path / "a.h5").write_bytes(b"nothing")
        with pytest.raises(InputError, match="mrlift data prepare"):
            SliceStore(tmp_path / "a.h5")
        with h5py.File(tmp_path / "b.h5", "w") as file:
            file["x"] = 1
        with pytest.raises(InputError, match="not a slice store"):
            SliceStore(tmp_path / "b.h5")
        phantom_store(tmp_path / "c.h5")
        with h5py.File(tmp_path / "c.h5", "a") as file:
            del file["00001"].attrs["unit"]
        with pytest.raises(InputError, match="damaged"):
            SliceStore(tmp_path / "c.h5")

    @pytest.mark.slow
    def test_ten_thousand_slices_need_no_more_memory_than_a_hundred(self, tmp_path):
        """Peak memory of a process that draws batches from stores of 100 series."""
        if not Path("/proc/self/status").exists():
            pytest.skip("needs /proc")
        code = (
            f"{PEAK}import sys; from pathlib import Path\n"
            f"sys.path[:0] = [{str(ROOT / 'tests')!r}, {str(ROOT / 'tests' / 'training')!r}]\n"
            "from runs import recipe; from mrlift.training.store import SliceStore\n"
            "from mrlift.training.patches import PatchSampler\n"
            "s = PatchSampler(SliceStore(Path(sys.argv[1])), recipe(batch=16))\n"
            "[s.draw(k) for k in range(100)]\n"
            "print(peak())"
        )
        peaks = []
        for slices in (1, 100):
            path = tmp_path / f"{slices}.h5"
            phantom_store(path, ((128, 128),) * 99, slices=slices)
            done = subprocess.run(
                [sys.executable, "-c", code, path], capture_output=True, text=True, check=True
            )
            peaks.append(float(done.stdout))
        assert (tmp_path / "100.h5").stat().st_size > 300e6
        assert peaks[1] < peaks[0] + 20e6

    def test_preparing_holds_one_series_at_a_time(self, tmp_path):
        (tmp_path / "in").mkdir()
        peaks = []
        for count in (2, 8):
            for k in range(count):
                mrlift.save(
                    head_volume((96, 96, 20)), tmp_path / "in" / f"p{k}.nii", overwrite=True
                )
            tracemalloc.start()
            prepare([tmp_path / "in"], tmp_path / "s.h5", Rules(), overwrite=True)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert peaks[1] < 1.3 * peaks[0]


def test_patches_come_from_training_patients_only(tmp_path):
    store = phantom_store(tmp_path / "s.h5")
    sampler = PatchSampler(store, recipe())
    rng = np.random.default_rng(0)
    assert {store.records[sampler._random(rng).series].patient for _ in range(50)} == {"a"}
