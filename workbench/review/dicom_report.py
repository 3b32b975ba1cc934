"""What a reader found in an exam as a DICOM structured report (Comprehensive SR, TID 1500), one file per submission."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from workbench import __version__
from workbench.review.pseudonyms import Pseudonyms
from workbench.review.reads import DME_GRADES, SavedRead
from workbench.schema.errors import WorkbenchError
from workbench.schema.files import atomic_path
from workbench.schema.grades import GRADES

try:
    import highdicom as hd
    from pydicom.dataset import Dataset
    from pydicom.sr.codedict import codes
except ModuleNotFoundError as missing:
    raise WorkbenchError(
        f"DICOM reports need the package {missing.name}, which is not installed",
        "pip install 'retina-trust-workbench[dicom]'",
    ) from None

SCHEME: Final = "99RTW"
"""Our own coding scheme (PS3.3 8.2: private ones begin with 99): the ICDR scale has no code in DICOM's tables."""

PHOTOGRAPH_CLASS: Final = "1.2.840.10008.5.1.4.1.1.77.1.5.1"
"""Ophthalmic Photography 8 Bit Image Storage, as which a photograph is referenced."""


def report_of(reads: Sequence[SavedRead], names: Pseudonyms, reader: str, *, identifiers: bool = False) -> Dataset:
    """Return the report on one submission.

    A photograph that did not come as DICOM is referenced by an identifier made from its hash: the same photograph and
    key give the same one.

    Args:
        reads: the eyes of one submission.
        names: makes pseudonyms and identifiers.
        reader: what stands for the reader.
        identifiers: whether the patient's own id stands in it.
    """
    first = reads[0]
    patient = _plain(first.patient_id) if identifiers else names.patient(first.patient_id)
    report = hd.sr.ComprehensiveSR(
        evidence=[_photograph(read, names, patient) for read in reads],
        content=_content(reads, names, reader)[0],
        series_instance_uid=names.uid("series", f"{first.run_id} {first.reader}"),
        series_number=1,
        sop_instance_uid=names.uid("report", first.submission_key),
        instance_number=first.event_id,
        manufacturer="Retina Trust Workbench",
        manufacturer_model_name="Retina Trust Workbench",
        software_versions=__version__,
        is_complete=True,
        is_final=True,
        is_verified=False,  # nobody signed it: the reader's name is in the database
    )
    report.SeriesDescription = f"Reader's grades, {first.protocol}, {first.stage}"
    return report


def write_report(report: Dataset, out: Path) -> None:
    """Write a report as a DICOM file, atomically."""
    with atomic_path(out) as temporary:
        report.save_as(temporary, enforce_file_format=True)


def _photograph(read: SavedRead, names: Pseudonyms, patient: str) -> Dataset:
    """Return what a report must know of a photograph that it references."""
    shown = Dataset()
    shown.SOPClassUID = PHOTOGRAPH_CLASS
    shown.SOPInstanceUID = _image_uid(read, names)
    shown.StudyInstanceUID = names.uid("study", read.exam_id)
    shown.SeriesInstanceUID = names.uid("photographs", read.exam_id)
    shown.PatientID, shown.PatientName = patient, f"{patient}^"
    for empty in ("PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate", "StudyTime"):
        setattr(shown, empty, "")
    shown.ReferringPhysicianName = ""
    shown.Modality = "OP"
    shown.Rows = shown.Columns = 1
    return shown


def _plain(text: str) -> str:
    """Return what DICOM can hold as a name or an id: at most 64 characters, none of its own separators."""
    return "".join(" " if letter in "\\^=" or not letter.isprintable() else letter for letter in text)[:63]


def _image_uid(read: SavedRead, names: Pseudonyms) -> str:
    return names.uid("photograph", read.image_sha256 or f"{read.exam_id} {read.eye}")


def _content(reads: Sequence[SavedRead], names: Pseudonyms, reader: str) -> Any:
    observer = hd.sr.ObserverContext(
        observer_type=codes.DCM.Person,
        observer_identifying_attributes=hd.sr.PersonObserverIdentifyingAttributes(
            name=f"{_plain(reader)}^"  # a name of one component, as pseudonyms are
        ),
    )
    groups = [_eye(read, names) for read in reads]
    if reads[0].disposition is not None:
        groups.append(_patient(reads[0], names))
    return hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_person_context=observer),
        procedure_reported=codes.DCM.OphthalmicPhotography,
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )


def _eye(read: SavedRead, names: Pseudonyms) -> Any:
    laterality = codes.SCT.Right if read.eye == "OD" else codes.SCT.Left
    said = [_said("GRADABLE", "Gradability", *(("YES", "Gradable") if read.gradable else ("NO", "Not gradable")))]
    if read.icdr_grade is not None:
        words = f"{read.icdr_grade} {GRADES[read.icdr_grade]}"
        said.append(_said("ICDR", "International Clinical Diabetic Retinopathy grade", f"ICDR{read.icdr_grade}", words))
    if read.dme is not None:
        words = f"{read.dme} {DME_GRADES[read.dme]}"
        said.append(_said("DME", "Diabetic macular oedema grade", f"DME{read.dme}", words))
    confidence = _code("CONFIDENCE", "Reader's confidence, 1 to 5")
    measured = [] if read.confidence is None else [hd.sr.Measurement(confidence, read.confidence, codes.UCUM.NoUnits)]
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(names, f"{read.submission_key} {read.eye}", read.eye),
        finding_type=codes.DCM.Finding,
        finding_sites=[hd.sr.FindingSite(codes.SCT.Retina, laterality=laterality)],
        measurements=measured,
        qualitative_evaluations=said,
        source_images=[hd.sr.SourceImageForMeasurementGroup(PHOTOGRAPH_CLASS, _image_uid(read, names))],
    )


def _patient(read: SavedRead, names: Pseudonyms) -> Any:
    value = ("REFER", "Refer") if read.disposition == "refer" else ("RESCREEN", "Screen again")
    months = _code("RESCREEN_IN", "Screen again in")
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(names, f"{read.submission_key} patient", "patient"),
        finding_type=codes.DCM.Finding,
        measurements=[hd.sr.Measurement(months, read.rescreen_months, codes.UCUM.Month)]
        if read.rescreen_months
        else [],
        qualitative_evaluations=[_said("DISPOSITION", "What happens to the patient", *value)],
    )


def _tracking(names: Pseudonyms, name: str, words: str) -> Any:
    return hd.sr.TrackingIdentifier(uid=names.uid("tracking", name), identifier=words)


def _said(name: str, meaning: str, value: str, words: str) -> Any:
    return hd.sr.QualitativeEvaluation(_code(name, meaning), _code(value, words))


def _code(value: str, meaning: str) -> Any:
    return hd.sr.CodedConcept(value=value, scheme_designator=SCHEME, meaning=meaning[:64])
