from tests.audit.test_attention import marked_run  # noqa: F401
from workbench.audit.attention_words import exam_sentences
from workbench.report.write import as_html, assemble


def test_a_case_says_where_the_model_looked(marked_run) -> None:  # noqa: F811
    told = [exam_sentences(marked_run, exam_id) for exam_id in marked_run.exam_ids]
    sentences = [sentence for eyes in told for of_eye in eyes.values() for sentence in of_eye]
    assert any("marked in the data set" in sentence for sentence in sentences)
    shown = {
        (row.exam_id, row.eye) for row in marked_run.attention().itertuples() if row.method in marked_run.methods()
    }
    for exam_id, eyes in zip(marked_run.exam_ids, told, strict=True):
        for eye, of_eye in eyes.items():
            mapped = [sentence for sentence in of_eye if sentence.startswith("Integrated gradients")]
            assert not mapped or (exam_id, eye) in shown


def test_the_report_holds_maps_against_both_floors(marked_run) -> None:  # noqa: F811
    page = as_html(assemble(marked_run))
    assert "What the maps are worth" in page
    assert "Floor: smooth noise" in page
    assert "Floor: edges of the photograph" in page
    assert "lesions that the data set marks" in page
