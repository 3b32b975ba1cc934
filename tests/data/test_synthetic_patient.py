"""One synthetic patient: findings by grade, masks that lie on lesions, dirt that stays on the sensor."""

import functools

import numpy as np
import pytest

from workbench.data.synthetic.camera import CAMERAS, CLEANED_EVERY, dirt_of
from workbench.data.synthetic.eye import draw_anatomy, draw_complexion, reflect
from workbench.data.synthetic.lesions import Findings, Lesion, paint_lesions, plan_findings
from workbench.data.synthetic.patient import MISSING_SHARE, QUALITY_SHARES, draw_patient, render_patient
from workbench.data.synthetic.vessels import quadrant_of
from workbench.data.synthetic.view import View
from workbench.schema.lesions import MASK_COLOURS
from workbench.schema.seeds import seed_for

DISC = (15.5, -1.6)


def view_of(eye="OD", size=256, gaze=(3.0, 0.0), roll=0.05, clip=1.0):
    return View(eye, size, 0.49, 45.0, gaze, roll, clip)


@functools.cache
def cohort_facts(patients=250):
    return [draw_patient(3, index, 128) for index in range(patients)]


def findings_of(grade, count=15):
    return [plan_findings(np.random.default_rng((grade, seed)), grade, view_of(), DISC) for seed in range(count)]


@pytest.mark.parametrize("eye", ["OD", "OS"])
def test_view_is_invertible_and_mirrors_the_left_eye(eye):
    view = view_of(eye)
    points = np.random.default_rng(0).uniform(-20, 20, (50, 2))
    assert view.to_retina(view.to_pixels(points)) == pytest.approx(points, abs=1e-9)
    x, y = view.grid()
    corner = view.to_retina(np.array([[7.0, 31.0]]))[0]
    assert (x[31, 7], y[31, 7]) == pytest.approx(corner, abs=1e-4)
    disc_column = view.to_pixels(np.array([DISC]))[0, 0]
    assert disc_column > view.size / 2 if eye == "OD" else disc_column < view.size / 2


def test_grade_0_has_nothing_and_grade_1_microaneurysms_only():
    assert all(findings == Findings(()) for findings in findings_of(0))
    for findings in findings_of(1):
        assert findings.count("microaneurysm") == len(findings.lesions) > 0
        assert not findings.beaded


def has_421(findings):
    many = all(count > 20 for count in findings.per_quadrant("haemorrhage"))
    return many or len(findings.beaded) >= 2 or findings.count("irma") >= 1


def is_proliferative(findings):
    before_retina = any(lesion.shape in ("boat", "cloud") for lesion in findings.lesions)
    return findings.count("neovascularisation") > 0 or before_retina


def test_grade_2_is_more_than_microaneurysms_and_less_than_the_421_rule():
    for findings in findings_of(2):
        assert findings.count("microaneurysm") > 0
        assert len(findings.lesions) > findings.count("microaneurysm")
        assert not has_421(findings)
        assert not is_proliferative(findings)


def test_grade_3_meets_the_421_rule_each_of_its_ways_without_new_vessels():
    all_findings = findings_of(3)
    assert all(has_421(findings) and not is_proliferative(findings) for findings in all_findings)
    assert any(min(findings.per_quadrant("haemorrhage")) > 20 for findings in all_findings)
    assert any(findings.beaded for findings in all_findings)
    assert any(findings.count("irma") for findings in all_findings)


def test_grade_4_has_new_vessels_or_blood_before_the_retina():
    assert all(is_proliferative(findings) for findings in findings_of(4))


def test_every_lesion_is_on_the_photograph():
    view = view_of(clip=0.86)
    for seed in range(10):
        findings = plan_findings(np.random.default_rng(seed), 3, view, DISC)
        places = np.array([(lesion.x, lesion.y) for lesion in findings.lesions])
        assert view.sees(places, margin=0.0).all()


def test_quadrants():
    points = np.array([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]])
    assert quadrant_of(points).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("grade", [2, 4])
def test_mask_colours_stand_where_the_facts_put_the_lesions(grade):
    index = next(facts.index for facts in cohort_facts() if len(facts.eyes) == 2 and facts.eyes[0].icdr_grade == grade)
    photo = render_patient(3, index, 256).photographs[0]
    facts = photo.facts
    colours = {tuple(colour) for colour in np.unique(photo.mask.reshape(-1, 3), axis=0).tolist()}
    assert colours <= {(0, 0, 0), *MASK_COLOURS.values()}
    for kind in ("microaneurysm", "hard exudate", "haemorrhage"):
        if facts.findings.count(kind):
            assert MASK_COLOURS[kind] in colours
        else:
            assert MASK_COLOURS[kind] not in colours
    # Nothing covers a microaneurysm in the mask, so each one's pixel is white.
    spots = [(lesion.x, lesion.y) for lesion in facts.findings.lesions if lesion.kind == "microaneurysm"]
    for column, row in np.round(facts.view.to_pixels(np.array(spots))).astype(int):
        assert tuple(photo.mask[row, column]) == (255, 255, 255)
    column, row = np.round(facts.view.to_pixels(np.array([facts.disc]))[0]).astype(int)
    assert tuple(photo.mask[row, column]) in (MASK_COLOURS["optic disc"], MASK_COLOURS["neovascularisation"])


def scene_with(*lesions, size=256):
    view = view_of(size=size)
    rng = np.random.default_rng(0)
    anatomy = draw_anatomy(rng, draw_complexion(rng, 60.0), DISC, ())
    return reflect(np.random.default_rng(1), anatomy, Findings(lesions), view)


@pytest.mark.parametrize(
    ("lesion", "brighter"),
    [
        (Lesion("microaneurysm", "dot", -4.0, 3.0, 0.22), False),
        (Lesion("haemorrhage", "blot", -4.0, 3.0, 0.8), False),
        (Lesion("haemorrhage", "boat", -4.0, 3.0, 3.0, 0.5), False),
        (Lesion("hard exudate", "deposit", -4.0, 3.0, 0.4), True),
        (Lesion("soft exudate", "wool", -4.0, 3.0, 1.0), True),
    ],
    ids=lambda value: getattr(value, "shape", ""),
)
def test_a_lesion_changes_the_picture_where_its_mask_is_and_nearly_nowhere_else(lesion, brighter):
    clean, empty = scene_with()
    painted, mask = scene_with(lesion)
    marked = (mask != empty).any(axis=2)
    green = painted[..., 1] - clean[..., 1]
    assert marked.any()
    assert (green[marked].mean() > 0) == brighter
    assert abs(green[marked].mean()) > 0.04
    far = np.hypot(*np.indices(marked.shape) - np.argwhere(marked).mean(axis=0)[:, None, None]) > 60
    assert (green[far] == 0).all()
    assert tuple(mask[marked][0]) == MASK_COLOURS[lesion.kind]


def test_a_microaneurysm_below_a_pixel_still_has_one():
    for size in (32, 64, 512):
        _, extent = paint_lesions([Lesion("microaneurysm", "dot", 2.0, 2.0, 0.1)], view_of(size=size))
        assert extent["microaneurysm"].any()


def test_a_lesion_beyond_the_frame_is_no_error():
    cover, _ = paint_lesions([Lesion("haemorrhage", "blot", -60.0, 40.0, 1.0)], view_of())
    assert cover["haemorrhage"].max() == 0


def test_the_same_seed_gives_the_same_pixels_and_another_seed_others():
    first, again = render_patient(1, 7, 64), render_patient(1, 7, 64)
    for one, two in zip(first.photographs, again.photographs, strict=True):
        assert (one.pixels == two.pixels).all()
        assert (one.mask == two.mask).all()
    other = render_patient(2, 7, 64)
    assert (first.photographs[0].pixels != other.photographs[0].pixels).any()


@pytest.mark.parametrize("size", [32, 128, 257])
def test_any_size_shows_the_same_patient(size):
    facts = draw_patient(0, 4, size)
    assert [eye.findings for eye in facts.eyes] == [eye.findings for eye in draw_patient(0, 4, 64).eyes]
    for photo in render_patient(0, 4, size).photographs:
        assert photo.pixels.shape == photo.mask.shape == (size, size, 3)
        assert photo.pixels[0, 0].max() < 20


def test_dirt_is_at_the_same_sensor_position_in_both_eyes():
    index = next(
        facts.index
        for facts in cohort_facts()
        if len(facts.eyes) == 2
        and all(eye.conditions.quality == "good" for eye in facts.eyes)
        and any(artefact.kind == "speck" and artefact.radius > 0.3 for artefact in facts.artefacts)
    )
    size = 256
    dirty, clean = render_patient(3, index, size), render_patient(3, index, size, artefacts=False)
    changed = [
        np.abs(one.pixels.astype(int) - two.pixels.astype(int)).max(axis=2) > 3
        for one, two in zip(dirty.photographs, clean.photographs, strict=True)
    ]
    for artefact in dirty.facts.artefacts:
        if artefact.kind == "speck":
            column, row = int(artefact.x * size), int(artefact.y * size)
            assert changed[0][row, column]
            assert changed[1][row, column]
    union, both = (changed[0] | changed[1]).sum(), (changed[0] & changed[1]).sum()
    assert both > 0.6 * union > 0
    mirrored = (changed[0] & changed[1][:, ::-1]).sum()
    assert mirrored < 0.5 * both
    # Dirt is no lesion: the mask does not know of it.
    assert (dirty.photographs[0].mask == clean.photographs[0].mask).all()


def test_a_camera_keeps_its_dirt_until_it_is_wiped_and_its_dead_pixels_for_good():
    first, later = dirt_of(0, "north", CAMERAS[0], 0), dirt_of(0, "north", CAMERAS[0], CLEANED_EVERY - 1)
    wiped = dirt_of(0, "north", CAMERAS[0], 40 * CLEANED_EVERY)
    assert first == later != wiped
    assert first != dirt_of(0, "harbour", CAMERAS[0], 0)

    def dead(dirt):
        return [artefact for artefact in dirt if artefact.kind == "dead pixel"]

    assert dead(first) == dead(wiped)


def test_some_specks_are_of_a_microaneurysms_size():
    radii = [a.radius for facts in cohort_facts() for a in facts.artefacts if a.kind == "speck"]
    assert np.mean(np.array(radii) < 0.25) > 0.1


def test_a_few_patients_have_one_eye_and_quality_is_as_stated():
    facts = cohort_facts()
    # Three standard errors at 250 patients.
    single = np.mean([len(patient.eyes) == 1 for patient in facts])
    assert 0 < single < MISSING_SHARE + 3 * np.sqrt(MISSING_SHARE / 250)
    eyes = [eye for patient in facts for eye in patient.eyes]
    for quality, share in QUALITY_SHARES.items():
        assert np.mean([eye.conditions.quality == quality for eye in eyes]) == pytest.approx(
            share, abs=3.5 * np.sqrt(share * (1 - share) / 250)
        )
    assert all(eye.gradable == (eye.conditions.quality != "reject") for eye in eyes)


def test_a_patient_does_not_depend_on_how_it_is_asked_for():
    assert cohort_facts()[40] == draw_patient(3, 40, 128)
    assert seed_for(3, 40, "patient") != seed_for(3, 41, "patient")


def test_dme_follows_the_hard_exudates():
    for patient in cohort_facts():
        for eye in patient.eyes:
            distances = [np.hypot(a.x, a.y) for a in eye.findings.lesions if a.kind == "hard exudate"]
            assert (eye.dme == 0) == (not distances)
            assert (eye.dme == 2) == bool(distances and min(distances) < 5.3)


def test_rejected_photographs_have_lost_their_detail():
    def detail(photo):
        inside = photo.pixels[32:-32, 32:-32, 1].astype(float)
        return np.abs(np.diff(inside, axis=1)).mean() / (inside.mean() + 12)

    wanted = {"good": [], "reject": []}
    for facts in cohort_facts():
        for side, eye in enumerate(facts.eyes):
            sample = wanted.get(eye.conditions.quality)
            if sample is not None and len(sample) < 4 and facts.camera.name != "dogwood-40":
                sample.append(detail(render_patient(3, facts.index, 128).photographs[side]))
    assert np.median(wanted["reject"]) < 0.8 * np.median(wanted["good"])
