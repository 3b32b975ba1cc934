from __future__ import annotations

from tests.report.conftest import Written
from workbench.audit.layout import CLEAN
from workbench.report.cases import ATTACKED_SHOWN, REFERRED_SHOWN, SILENT_SHOWN, _eyes, _ranked


def test_the_groups_hold_what_their_titles_say(written: Written) -> None:
    decisions = written.run.decisions()
    clean = decisions[decisions["measurement"] == CLEAN].set_index("exam_id")
    silent, caught, attacked = written.report.groups
    assert silent.total == int(clean["silent_failure"].fillna(False).sum())
    assert caught.total == int((clean["wrong"].fillna(False) & clean["referred"]).sum())
    under_attack = decisions[decisions["measurement"].str.match("fgsm|pgd") & decisions["silent_failure"].fillna(False)]
    right = clean.index[(~clean["wrong"]).fillna(False)]
    assert attacked.total == under_attack["exam_id"].isin(right).groupby(under_attack["exam_id"]).any().sum()
    assert all("silently wrong" in " ".join(case.stresses) for case in attacked.cases)


def test_missed_disease_stands_before_false_alarms(written: Written) -> None:
    decisions = written.run.decisions()
    # Under the strongest attack the invented run has errors of both kinds.
    table = decisions[(decisions["measurement"] == "pgd@2") & decisions["wrong"].fillna(False)]
    ranked = _ranked(written.run, table)
    missed = ranked["missed"].tolist()
    assert missed == sorted(missed, reverse=True)
    assert 0 < sum(missed) < len(missed)
    grades = ranked.loc[ranked["missed"], "worse_grade"].tolist()
    assert grades == sorted(grades, reverse=True)


def test_what_is_withheld_or_missing_says_why(written: Written) -> None:
    withheld = next(_eyes(written.run, "exam-004"))
    (gap, shown) = withheld.maps
    assert gap.uri is None
    assert "miss the logit" in gap.withheld
    assert shown.uri is not None
    missing = list(_eyes(written.run, "exam-001"))[1]
    assert missing.photograph is None
    assert missing.absent == "missing: no photograph"
    assert missing.predicted == "no answer"


def test_no_more_cases_are_shown_than_a_reader_can_look_at(written: Written) -> None:
    for group, most in zip(written.report.groups, (SILENT_SHOWN, REFERRED_SHOWN, ATTACKED_SHOWN), strict=True):
        assert len(group.cases) == min(group.total, most)
