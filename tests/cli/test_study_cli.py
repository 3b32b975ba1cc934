from typer.testing import CliRunner

from workbench.cli.main import app


def test_study_is_a_command_with_an_example():
    shown = CliRunner().invoke(app, ["study", "--help"], env={"COLUMNS": "160"})
    assert shown.exit_code == 0
    assert "workbench study configs/study/draws.yaml" in shown.output


def test_a_study_without_a_file_is_told():
    result = CliRunner().invoke(app, ["study", "nowhere.yaml"])
    assert result.exit_code != 0
    assert "no configuration at nowhere.yaml" in str(result.exception)
