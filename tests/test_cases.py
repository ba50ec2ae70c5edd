"""Our actions over the shared cases, compared by the comparison functions that lie beside the cases."""

import argparse
import importlib.util
import json
import logging
from pathlib import Path

import pytest

from tasks.registry import run_in_process

CASES = Path(__file__).parents[2] / "shared" / "cases"
FOLDERS = sorted(path.parent for path in CASES.glob("*/params.json"))
COMMANDS = {
    "vcn": ("gap_analysis", "vcn_aoi"),
    "bcq": ("gap_analysis", "vlm_bcq"),
    "knn": ("tmm", "nearest_neighbors"),
}
AGREED_DIFFERENCES = {
    "knn_err_topn_above_source": "topn above the pool's size is capped with a warning, not an error",
}
OPTIONS = argparse.Namespace(parser_tol=False, no_text=False)


@pytest.fixture(scope="module")
def check():
    """The module check.py of the cases."""
    found = importlib.util.spec_from_file_location("cases_check", CASES / "check.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_the_cases_are_there():
    if not FOLDERS:
        pytest.skip("the shared folder with cases is not beside this checkout")
    assert set(AGREED_DIFFERENCES) <= {folder.name for folder in FOLDERS}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_case(folder, check, tmp_path, monkeypatch, caplog):
    case = json.loads((folder / "params.json").read_text(encoding="utf-8"))
    work, out = tmp_path / "cwd", tmp_path / "out"
    work.mkdir()
    monkeypatch.chdir(work)
    spec = tmp_path / "spec.yaml"
    spec.write_text(spec_text(check, case, folder, work, out), encoding="utf-8")
    category, action = COMMANDS[case["action"]]
    with caplog.at_level(logging.INFO, logger="deft"):
        status = run_in_process(category, [action, "-e", str(spec)])
    if case["id"] in AGREED_DIFFERENCES:
        assert status == 0
        assert "WARNING" in caplog.text
        return
    forms = [folder / name for name in ("expected", "expected_pandas3") if (folder / name).is_dir()]
    differences = [difference(check, case, form, out, work, status, caplog.text) for form in forms]
    assert not all(differences), differences


def spec_text(check, case, folder, work, out):
    values = dict(case["spec"])
    if case["action"] == "knn":
        values["output_parquet"] = str(out / "mined.parquet")
    else:
        values["results_dir"] = str(out)
    text = "".join(f"{key}: {check.yaml_scalar(value)}\n" for key, value in values.items())
    return text.replace("{INPUTS}", str(folder / "inputs")).replace("{CWD}", str(work))


def difference(check, case, expected, out, work, status, log):
    """What differs from one form of the expected outputs; empty where nothing does."""

    def placed(text):
        return (
            text.replace("{OUT}", str(out))
            .replace("{CWD}", str(work))
            .replace("{INPUTS}", str(expected.parent / "inputs"))
        )

    try:
        if (expected / "error.json").exists():
            check.check_error(case, expected, status, log)
            return ""
        check.need(status == 0, f"exit status {status}: {log[-300:]}")
        for name in check.KNOWN[case["action"]]:
            check.need(
                (expected / name).exists() == (out / name).exists(), f"{name} exists in one place only"
            )
        if case["action"] == "bcq":
            check.cmp_bcq(case, expected, out, OPTIONS, placed)
        else:
            compare = check.cmp_vcn if case["action"] == "vcn" else check.cmp_knn
            compare(case, expected, out, OPTIONS)
        same_text(check, case, expected, out, placed)
    except check.Diff as found:
        return str(found)
    return ""


def same_text(check, case, expected, out, placed):
    """The text files agree to the byte, where ties leave nothing free."""
    for name in check.KNOWN[case["action"]]:
        if name.endswith(".parquet") or case.get("tie_sensitive") or not (expected / name).exists():
            continue
        text = placed((expected / name).read_text(encoding="utf-8"))
        check.need(text == (out / name).read_text(encoding="utf-8"), f"{name}: bytes differ")
