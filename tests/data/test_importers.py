"""Each layout on a handful of small photographs, and each kind of bad input."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbench.data.importers.csv_table import EYE_WORDS
from workbench.data.importers.odir5k import grade_of_keywords
from workbench.data.importers.photographs import files_by_stem, inside
from workbench.data.importers.record import read_record, require_output, write_import
from workbench.data.importers.registry import LAYOUTS, layout_of
from workbench.data.importers.result import ImportOptions, ImportResult
from workbench.schema.bundled import bundled
from workbench.schema.errors import WorkbenchError
from workbench.schema.files import sha256_file
from workbench.schema.manifest import read_manifest

DEFAULTS = ImportOptions(workers=2)


def photograph(path: Path, seed: int, size: tuple[int, int] = (48, 40)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


@pytest.fixture
def eyepacs(tmp_path: Path) -> Path:
    """Six patients, both eyes, grades 0 to 4 and 0."""
    lines = ["image,level"]
    for patient in range(1, 7):
        for place, side in enumerate(("left", "right")):
            photograph(tmp_path / "images" / f"{patient}_{side}.jpeg", seed=2 * patient + place)
            lines.append(f"{patient}_{side},{(patient - 1) % 5}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def run(folder: Path, layout: str = "eyepacs", labels: str | None = "labels.csv", **options: object) -> ImportResult:
    given = DEFAULTS.model_copy(update=options)
    return LAYOUTS[layout].read(folder / "images", folder / labels if labels else None, given)


def reasons(result: ImportResult) -> dict[str, str]:
    return {remark.source: remark.reason for remark in result.left_out}


def write_labels(folder: Path, *lines: str) -> None:
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


class TestEyepacs:
    def test_left_is_os_and_every_field_is_filled(self, eyepacs: Path) -> None:
        manifest = run(eyepacs).manifest
        assert len(manifest) == 12
        assert manifest["patient_id"].nunique() == 6
        left = manifest[manifest["image_path"].str.endswith("_left.jpeg")]
        assert set(left["eye"]) == {"OS"}
        assert set(manifest.drop(left.index)["eye"]) == {"OD"}
        first = manifest.iloc[0]
        assert (first["exam_id"], first["eye"], first["icdr_grade"], first["label_level"]) == ("1", "OD", 0, "eye")
        assert first["sha256"] == sha256_file(eyepacs / "images" / "1_right.jpeg")

    def test_od_stands_before_os_in_each_exam(self, eyepacs: Path) -> None:
        assert list(run(eyepacs).manifest["eye"]) == ["OD", "OS"] * 6

    def test_quality_beside_the_labels(self, eyepacs: Path) -> None:
        (eyepacs / "quality.csv").write_text("image,quality\n1_left,2\n1_right.jpeg,0\n2_left,7\n")
        quality = run(eyepacs).manifest.set_index("image_path")["quality"].dropna()
        assert {Path(path).stem: word for path, word in quality.items()} == {"1_left": "reject", "1_right": "good"}

    def test_a_named_quality_table_must_be_there(self, eyepacs: Path) -> None:
        with pytest.raises(WorkbenchError, match=r"nowhere\.csv"):
            run(eyepacs, quality=eyepacs / "nowhere.csv")

    def test_any_extension_and_an_image_named_with_it(self, eyepacs: Path) -> None:
        (eyepacs / "images" / "1_left.jpeg").unlink()
        photograph(eyepacs / "images" / "1_left.PNG", seed=77)
        labels = eyepacs / "labels.csv"
        labels.write_text(labels.read_text().replace("2_left,", "2_left.jpeg,"))
        assert len(run(eyepacs).manifest) == 12

    def test_two_files_of_one_name_are_not_chosen_between(self, eyepacs: Path) -> None:
        photograph(eyepacs / "images" / "1_left.png", seed=77)
        result = run(eyepacs)
        assert len(result.manifest) == 11
        assert reasons(result)["labels.csv line 2"].startswith("several files answer to one name")

    def test_what_cannot_be_used_is_left_out_with_its_line(self, eyepacs: Path) -> None:
        (eyepacs / "images" / "2_left.jpeg").unlink()
        photograph(eyepacs / "images" / "99_left.jpeg", seed=99)
        with (eyepacs / "labels.csv").open("a") as table:
            table.write("oddname,0\n1_left,0\n")
        found = reasons(run(eyepacs))
        assert found == {
            "labels.csv line 4": "no such photograph: 2_left",
            "labels.csv line 14": "the name 'oddname' is not PATIENT_left or PATIENT_right",
            "labels.csv line 15": "repeats an earlier line",
            "99_left.jpeg": "not named in labels.csv",
        }

    @pytest.mark.parametrize(
        ("cell", "why"), [("", "no grade"), ("5", "grade '5'"), ("x", "grade 'x'"), ("1.5", "grade '1.5'")]
    )
    def test_a_grade_that_is_none_leaves_the_eye_ungraded(self, eyepacs: Path, cell: str, why: str) -> None:
        labels = eyepacs / "labels.csv"
        labels.write_text(labels.read_text().replace("3_left,2", f"3_left,{cell}"))
        result = run(eyepacs)
        assert len(result.manifest) == 12
        assert result.manifest["icdr_grade"].isna().sum() == 1
        assert [remark.source for remark in result.ungraded] == ["labels.csv line 6"]
        assert result.ungraded[0].reason.startswith(why)


class TestBadFiles:
    """One bad photograph among many: left out with its reason, the rest goes on."""

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "empty file"),
            (b"<html>not found</html>" * 40, "not an image"),
            (b"\xff\xd8\xff", "not an image"),
        ],
    )
    def test_no_image(self, eyepacs: Path, content: bytes, reason: str) -> None:
        (eyepacs / "images" / "4_left.jpeg").write_bytes(content)
        result = run(eyepacs)
        assert reasons(result) == {"labels.csv line 8 (4_left.jpeg)": reason}
        assert len(result.manifest) == 11

    def test_nothing_left_is_an_error(self, eyepacs: Path) -> None:
        for path in (eyepacs / "images").iterdir():
            path.write_bytes(b"no")
        with pytest.raises(
            WorkbenchError, match=r"no photograph could be imported, 12 left out; the first: labels.csv"
        ):
            run(eyepacs)


class TestConflicts:
    """What contradicts itself is left out unless the user insists, and then it is recorded."""

    def test_two_left_eyes(self, tmp_path: Path) -> None:
        for name in ("1_left.jpg", "1_left.png", "1_right.jpg"):
            photograph(tmp_path / "images" / name, seed=hash(name) % 1000)
        result = run(tmp_path, "folder", None)
        assert [conflict.kind for conflict in result.conflicts] == ["same eye twice"]
        assert set(reasons(result)) == {"1_left.jpg", "1_left.png"}
        assert list(result.manifest["eye"]) == ["OD"]
        kept = run(tmp_path, "folder", None, allow_conflicts=True)
        assert (len(kept.manifest), kept.conflicts_allowed, kept.left_out) == (3, True, [])

    def test_one_image_twice(self, eyepacs: Path) -> None:
        (eyepacs / "images" / "5_left.jpeg").write_bytes((eyepacs / "images" / "6_right.jpeg").read_bytes())
        result = run(eyepacs)
        assert set(reasons(result)) == {"labels.csv line 10", "labels.csv line 13"}
        assert all(reason.startswith("duplicate image: the same image") for reason in reasons(result).values())
        assert len(run(eyepacs, allow_conflicts=True).manifest) == 12

    def test_one_file_with_two_grades(self, eyepacs: Path) -> None:
        with (eyepacs / "labels.csv").open("a") as table:
            table.write("1_left,3\n")
        assert set(reasons(run(eyepacs))) == {"labels.csv line 2", "labels.csv line 14"}

    def test_patient_in_two_splits_is_refused(self, tmp_path: Path) -> None:
        photograph(tmp_path / "images" / "a.jpg", 1)
        photograph(tmp_path / "images" / "b.jpg", 2)
        write_labels(tmp_path, "image,patient_id,eye,split", "a.jpg,7,OD,train", "b.jpg,7,OS,test")
        with pytest.raises(WorkbenchError, match=r"patient 7 is in the splits test, train .*--allow-conflicts"):
            run(tmp_path, "csv")
        kept = run(tmp_path, "csv", allow_conflicts=True)
        assert list(kept.manifest["split"]) == ["train", "test"]
        assert [conflict.kind for conflict in kept.conflicts] == ["patient in two splits"]

    def test_exam_of_two_patients(self, tmp_path: Path) -> None:
        photograph(tmp_path / "images" / "a.jpg", 1)
        photograph(tmp_path / "images" / "b.jpg", 2)
        photograph(tmp_path / "images" / "c.jpg", 3)
        write_labels(tmp_path, "image,patient_id,exam_id,eye", "a.jpg,7,E1,OD", "b.jpg,8,E1,OS", "c.jpg,9,E2,OS")
        result = run(tmp_path, "csv")
        assert list(result.manifest["patient_id"]) == ["9"]
        assert "exam E1 is of the patients 7, 8" in reasons(result)["labels.csv line 2"]


class TestOdir:
    HEADER = "ID,Patient Age,Patient Sex,Left-Fundus,Right-Fundus,Left-Diagnostic Keywords,Right-Diagnostic Keywords"

    @pytest.mark.parametrize(
        ("cell", "grade"),
        [
            ("normal fundus", 0),
            ("normal fundus，lens dust", 0),
            ("mild nonproliferative retinopathy", 1),
            ("Mild  non-proliferative diabetic retinopathy", 1),
            ("hypertensive retinopathy，moderate non proliferative retinopathy", 2),
            ("cataract，laser spot，moderate non proliferative retinopathy", 2),
            ("mild nonproliferative retinopathy，mild nonproliferative retinopathy", 1),
            ("severe nonproliferative retinopathy", 3),
            ("proliferative diabetic retinopathy，hypertensive retinopathy", 4),
            ("severe proliferative diabetic retinopathy, laser spot", 4),
            ("diabetic retinopathy", None),
            ("hypertensive retinopathy，suspected diabetic retinopathy", None),
            ("suspected moderate non proliferative retinopathy", None),
            ("moderate non proliferative retinopathy，suspected diabetic retinopathy", None),
            ("mild nonproliferative retinopathy，severe nonproliferative retinopathy", None),
            ("normal fundus，mild nonproliferative retinopathy", None),
            ("abnormal fundus", None),
            ("hypertensive retinopathy", None),
            ("cataract", None),
            ("laser spot", None),
            ("", None),
        ],
    )
    def test_keywords(self, cell: str, grade: int | None) -> None:
        found, reason = grade_of_keywords(cell)
        assert found == grade
        assert bool(reason) == (grade is None)

    def test_import(self, tmp_path: Path) -> None:
        for place, name in enumerate(("1_left", "1_right", "2_left")):
            photograph(tmp_path / "images" / f"{name}.jpg", place)
        write_labels(
            tmp_path,
            self.HEADER,
            "1,57,Male,1_left.jpg,1_right.jpg,normal fundus,cataract",
            "2,1,Female,2_left.jpg,2_right.jpg,severe nonproliferative retinopathy,normal fundus",
        )
        result = run(tmp_path, "odir5k")
        rows = result.manifest.set_index(["patient_id", "eye"])
        assert rows.loc[("1", "OS"), "icdr_grade"] == 0
        assert rows.loc[("2", "OS"), "icdr_grade"] == 3
        assert rows.loc[("1", "OD"), ["age", "sex"]].tolist() == [57.0, "male"]
        assert [asdict(remark) for remark in result.ungraded] == [
            {"source": "labels.csv line 2 OD", "reason": "no keyword about diabetic retinopathy: cataract"}
        ]
        assert reasons(result) == {"labels.csv line 3 OD": "no such photograph: 2_right.jpg"}
        assert rows["age"].isna().sum() == 1
        assert result.remarks[0].reason == "age 1 taken as not known"


class TestIdrid:
    def test_masks_and_unknown_side(self, tmp_path: Path) -> None:
        for number in (1, 2, 3):
            photograph(tmp_path / "images" / f"IDRiD_{number:02d}.jpg", number)
        photograph(tmp_path / "masks" / "IDRiD_01.png", 9)
        photograph(tmp_path / "masks" / "IDRiD_02.png", 9, size=(20, 20))
        result = run(tmp_path, "idrid", None)
        assert set(result.manifest["eye"]) == {"unknown"}
        assert result.manifest["mask_path"].isna().tolist() == [False, True, True]
        assert [remark.reason.partition(":")[0] for remark in result.remarks] == [
            "the lesion mask has another size than its photograph",
            "no lesion mask",
        ]
        assert {conflict.kind for conflict in result.conflicts} == {"unknown laterality"}
        assert len(result.ungraded) == 3

    def test_grading_table_is_matched_by_the_whole_name(self, tmp_path: Path) -> None:
        photograph(tmp_path / "images" / "IDRiD_001.jpg", 1)
        photograph(tmp_path / "images" / "IDRiD_01.jpg", 2)
        # The original's header ends in a blank.
        write_labels(tmp_path, "Image name,Retinopathy grade,Risk of macular edema ,", "IDRiD_001,3,2,")
        result = run(tmp_path, "idrid")
        assert result.manifest[["patient_id", "icdr_grade", "dme"]].values.tolist() == [["IDRiD_001", 3, 2]]
        assert reasons(result) == {"IDRiD_01": "not named in labels.csv"}


class TestCsv:
    def table(self, folder: Path, *lines: str) -> Path:
        for place, name in enumerate(("a", "b", "c", "d")):
            photograph(folder / "images" / "sub" / f"{name}.png", place)
        write_labels(folder, *lines)
        return folder

    def test_mapped_columns(self, tmp_path: Path) -> None:
        self.table(
            tmp_path,
            "file,who,side,dr,age,sex,gradable,quality,split",
            "sub/a.png,p1,R,2,61,F,yes,good,val",
            "sub/b.png,p1,left,,x,M,maybe,bad,",
        )
        columns = {"image": "file", "patient_id": "who", "eye": "side", "icdr_grade": "dr"}
        result = run(tmp_path, "csv", columns=columns)
        right, left = result.manifest.to_dict("records")
        assert (right["eye"], right["icdr_grade"], right["age"], right["sex"]) == ("OD", 2, 61.0, "female")
        assert (right["gradable"], right["quality"], right["split"], right["dataset"]) == (
            True, "good", "validation", "csv",
        )  # fmt: skip
        assert left["split"] == "validation", "a patient's other row says which split"
        assert [asdict(remark) for remark in result.remarks] == [
            {
                "source": "labels.csv line 3",
                "reason": "gradable 'maybe' is not understood (true, 1, yes, false, 0, no); "
                "quality 'bad' is not understood (good, usable, reject); age 'x' is not a number",
            }
        ]
        assert [remark.reason for remark in result.ungraded] == ["no grade"]

    @pytest.mark.parametrize("word", [*EYE_WORDS, "OU", "1"])
    def test_eye_words(self, tmp_path: Path, word: str) -> None:
        self.table(tmp_path, "image,patient_id,exam_id,eye", f"sub/a.png,p,e,{word.upper()}")
        result = run(tmp_path, "csv")
        assert result.manifest["eye"].tolist() == [EYE_WORDS.get(word, "unknown")]
        assert bool(result.remarks) == (word not in EYE_WORDS)

    def test_visits_are_kept_apart_and_patients_together(self, tmp_path: Path) -> None:
        self.table(
            tmp_path, "image,patient_id,exam_id,eye", "sub/a.png,p,e1,OD", "sub/b.png,p,e2,OD", "sub/c.png,q,e3,OS"
        )
        manifest = run(tmp_path, "csv").manifest
        assert manifest["exam_id"].tolist() == ["e1", "e2", "e3"]
        assert manifest.groupby("patient_id")["split"].nunique().max() == 1

    def test_mask_column(self, tmp_path: Path) -> None:
        self.table(tmp_path, "image,patient_id,eye,mask", "sub/a.png,p,OD,sub/b.png", "sub/c.png,p,OS,sub/no.png")
        result = run(tmp_path, "csv")
        assert result.manifest["mask_path"].isna().tolist() == [False, True]
        assert result.remarks[0].reason == "mask: no such photograph: sub/no.png"

    @pytest.mark.parametrize("name", ["../outside.png", "/etc/passwd", "sub/../../outside.png", "a\0.png"])
    def test_paths_that_leave_the_folder(self, tmp_path: Path, name: str) -> None:
        photograph(tmp_path / "outside.png", 5)
        path, fault = inside(tmp_path / "images", name)
        assert path is None
        assert fault.startswith("the path leaves the images folder")

    @pytest.mark.parametrize(
        ("header", "options", "words"),
        [
            ("image,eye", {}, "lacks the column 'patient_id'"),
            ("patient_id,eye", {}, "lacks the column 'image'"),
            ("image,patient_id", {}, "neither a column 'eye' nor 'exam_id'"),
            ("image,patient_id,eye", {"columns": {"icdr_grade": "dr"}}, "lacks the column 'dr'"),
            (
                "image,patient_id,eye",
                {"columns": {"grade": "dr"}},
                "no field 'grade' — the fields are image, mask, .*icdr_grade",
            ),
        ],
    )
    def test_missing_column(self, tmp_path: Path, header: str, options: dict[str, object], words: str) -> None:
        self.table(tmp_path, header, ",".join(["x"] * len(header.split(","))))
        with pytest.raises(WorkbenchError, match=words):
            run(tmp_path, "csv", **options)

    def test_unknown_split(self, tmp_path: Path) -> None:
        self.table(tmp_path, "image,patient_id,eye,split", "sub/a.png,p,OD,fold3")
        with pytest.raises(WorkbenchError, match=r"labels.csv line 2: split is 'fold3' — it must be one of train"):
            run(tmp_path, "csv")


class TestFolder:
    def test_names(self, tmp_path: Path) -> None:
        names = ("1_left.jpg", "1_RIGHT.jpg", "clinic/1_od.png", "17_left_2.jpg", "scan.tif", "sub/left.jpg")
        for place, name in enumerate(names):
            photograph(tmp_path / "images" / name, place)
        (tmp_path / "images" / "readme.txt").write_text("hello")
        (tmp_path / "images" / ".hidden.jpg").write_text("hello")
        result = run(tmp_path, "folder", None)
        found = {(row.patient_id, row.eye) for row in result.manifest.itertuples()}
        assert found == {
            ("1", "OS"), ("1", "OD"), ("clinic/1", "OD"),
            ("17_left_2", "unknown"), ("scan", "unknown"), ("sub/left", "unknown"),
        }  # fmt: skip
        assert reasons(result) == {"readme.txt": "not a photograph's extension: .txt"}
        assert len(result.ungraded) == 6

    def test_takes_no_labels(self, eyepacs: Path) -> None:
        with pytest.raises(WorkbenchError, match="takes no label table"):
            run(eyepacs, "folder")


class TestTables:
    @pytest.mark.parametrize("layout", ["eyepacs", "odir5k", "csv"])
    def test_labels_are_needed(self, eyepacs: Path, layout: str) -> None:
        with pytest.raises(WorkbenchError, match="add --labels FILE"):
            run(eyepacs, layout, None)


class TestFamily:
    """One property for every layout."""

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_has_a_card(self, layout: str) -> None:
        card = (bundled("datasets") / f"{layout}.md").read_text(encoding="utf-8")
        assert f"workbench data import {layout}" in card
        assert "## Traps" in card

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_missing_folder_is_one_line(self, eyepacs: Path, layout: str) -> None:
        write_labels(
            eyepacs, f"image,level,patient_id,eye,{TestOdir.HEADER},Image name,Retinopathy grade,Risk of macular edema"
        )
        labels = None if layout == "folder" else eyepacs / "labels.csv"
        with pytest.raises(WorkbenchError, match=r"no folder at .*nowhere — check --images"):
            LAYOUTS[layout].read(eyepacs / "nowhere", labels, DEFAULTS)

    def test_unknown_layout_names_the_nearest(self) -> None:
        with pytest.raises(WorkbenchError, match="no layout 'eyepac' — did you mean 'eyepacs'"):
            layout_of("eyepac")

    def test_the_order_of_lines_does_not_matter(self, eyepacs: Path) -> None:
        before = run(eyepacs).manifest
        header, *lines = (eyepacs / "labels.csv").read_text().split()
        write_labels(eyepacs, header, *reversed(lines))
        assert run(eyepacs, workers=1).manifest.equals(before)

    def test_the_user_tells_camera_site_and_version(self, eyepacs: Path) -> None:
        told = {"camera": "C", "site": "S", "dataset": "D", "dataset_version": "V"}
        manifest = run(eyepacs, **told).manifest
        assert {name: set(manifest[name]) for name in told} == {name: {value} for name, value in told.items()}

    def test_splitting_options_are_checked(self) -> None:
        with pytest.raises(ValueError, match="sum to 1"):
            ImportOptions(split_fractions=(0.5, 0.5, 0.5))


class TestRecord:
    def test_written_and_read_again(self, eyepacs: Path, tmp_path: Path) -> None:
        (eyepacs / "images" / "2_left.jpeg").unlink()
        result = run(eyepacs)
        out = tmp_path / "out"
        write_import(
            out, result, layout="eyepacs", images=eyepacs / "images", labels=eyepacs / "labels.csv", options=DEFAULTS
        )
        assert read_manifest(out).equals(result.manifest)
        record = read_record(out)
        assert record is not None
        assert record["left_out"] == [{"source": "labels.csv line 4", "reason": "no such photograph: 2_left"}]
        assert record["labels_sha256"] == sha256_file(eyepacs / "labels.csv")
        assert record["summary"]["complete_pairs"] == 5
        assert record["conflicts_allowed"] is False

    def test_a_second_import_writes_the_same_bytes(self, eyepacs: Path, tmp_path: Path) -> None:
        written = []
        for _ in range(2):
            write_import(
                tmp_path / "out",
                run(eyepacs),
                layout="eyepacs",
                images=eyepacs / "images",
                labels=None,
                options=DEFAULTS,
            )
            written.append([(tmp_path / "out" / name).read_bytes() for name in ("manifest.csv", "import.json")])
        assert written[0] == written[1]

    def test_broken_record(self, tmp_path: Path) -> None:
        (tmp_path / "import.json").write_text("{")
        with pytest.raises(WorkbenchError, match="not readable JSON"):
            read_record(tmp_path)

    def test_no_record(self, tmp_path: Path) -> None:
        assert read_record(tmp_path) is None

    def test_output_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(WorkbenchError, match="is a file, not a folder"):
            require_output(tmp_path / "file" / "below")
        assert require_output(tmp_path / "new" / "below") == tmp_path / "new" / "below"


@pytest.mark.realdata
class TestRealPhotographs:
    """The counts that the cards state."""

    def test_odir(self, real_data: Path) -> None:
        folder = real_data / "odir5k"
        result = layout_of("odir5k").read(folder / "images", folder / "annotations.csv", DEFAULTS)
        counts = result.manifest.groupby("eye")["icdr_grade"].value_counts().sort_index()
        assert counts["OD"].tolist() == [144, 55, 101, 21, 5]
        assert counts["OS"].tolist() == [147, 57, 100, 17, 4]
        assert (len(result.manifest), len(result.ungraded), len(result.left_out)) == (800, 149, 0)

    def test_idrid(self, real_data: Path) -> None:
        result = layout_of("idrid").read(real_data / "idrid" / "images", None, DEFAULTS)
        assert result.manifest["mask_path"].notna().sum() == 12

    def test_eyepacs_full_resolution(self, real_data: Path) -> None:
        folder = real_data / "eyepacs_fullres"
        result = layout_of("eyepacs").read(folder / "images", folder / "trainLabels.csv", DEFAULTS)
        assert result.manifest["eye"].tolist() == ["OD", "OS"] * 2

    def test_card_of_eyepacs(self, real_data: Path) -> None:
        card = (bundled("datasets") / "eyepacs.md").read_text(encoding="utf-8")
        assert sha256_file(real_data / "eyepacs256" / "trainLabels.csv") in card
        folder = real_data / "eyepacs256"
        assert len(files_by_stem(folder / "images")) == 5392


def test_json_of_a_result_has_no_missing_values(eyepacs: Path, tmp_path: Path) -> None:
    record = write_import(
        tmp_path / "out", run(eyepacs), layout="eyepacs", images=eyepacs, labels=None, options=DEFAULTS
    )
    assert json.loads((tmp_path / "out" / "import.json").read_text()) == record
