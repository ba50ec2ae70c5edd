"""The launchers of four releases: needs -e, rejects it, has old names, says FAIL and exits with 0."""

import subprocess
import sys
import textwrap

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from blocks.containers.drift import NAMES, Schema, adapted, is_drift, keep, kept, printed_keys, probe, stub_in

KEYS = {
    "inference_results_dir": "???",
    "train_config": "???",
    "results_dir": "???",
    "kpi_media_path": "",
    "min_recall": 1.0,
    "top_k_per_label": 50,
    "threshold": -1.0,
}
OLD_KEYS = {
    "inference_csv": "???",
    "train_yaml": "???",
    "output_dir": "???",
    "images_dir": "",
    "min_recall": 1.0,
    "top_k": 50,
    "threshold": -1.0,
}
SPEC = {
    "inference_results_dir": "/data/run/inference",
    "train_config": "/data/run/train.yaml",
    "results_dir": "/data/run/gap",
    "min_recall": 0.99,
    "top_k_per_label": 50,
}
DIGEST = "sha256:" + "ab" * 32

LAUNCHER = """
import argparse, sys, yaml
from omegaconf import OmegaConf

KEYS, FLAG, SAYS_FAIL = {keys!r}, {flag!r}, {says_fail!r}

def fail(message):
    print(message, file=sys.stderr)
    print("Execution status: FAIL")
    sys.exit(0 if SAYS_FAIL else 1)

print("\\x1b[32mINFO: Loading the launcher\\x1b[0m")
print("/opt/lib/thing.py:12: UserWarning: deprecated\\n  warnings.warn(", file=sys.stderr, flush=True)
argv = sys.argv[1:]
spec = dict()
if argv[:2] != ["gap_analysis", "vcn_aoi"]:
    fail("action not found")
if "-e" in argv:
    if FLAG == "rejected":
        fail("launcher: error: unrecognized arguments: -e")
    spec = yaml.safe_load(open(argv[argv.index("-e") + 1])) or dict()
elif FLAG == "required":
    fail("launcher: error: the following arguments are required: -e/--experiment_spec_file")
words = [word for word in argv if "=" in word and not word.startswith("-")]
spec |= OmegaConf.to_container(OmegaConf.from_dotlist(words))
for key in spec:
    if key not in KEYS:
        fail(f"Could not override '{{key}}'. Key '{{key}}' is not in struct")
merged = KEYS | spec
if "--cfg=job" in argv:
    sys.stdout.flush()
    print(yaml.safe_dump(merged, sort_keys=False).rstrip())
elif "???" in merged.values():
    fail("omegaconf.errors.MissingMandatoryValue: Missing mandatory value")
elif merged[list(KEYS)[0]].endswith(".csv") != (list(KEYS)[0] == "inference_csv"):
    fail("NotADirectoryError")
else:
    print("ran", yaml.safe_dump(merged, default_flow_style=True, width=9999).strip())
print("Execution status: PASS")
"""

PERSONALITIES = {
    "needs -e": {"keys": KEYS, "flag": "required", "says_fail": False},
    "rejects -e": {"keys": KEYS, "flag": "rejected", "says_fail": False},
    "old names": {"keys": OLD_KEYS, "flag": "optional", "says_fail": False},
    "old names, rejects -e": {"keys": OLD_KEYS, "flag": "rejected", "says_fail": False},
    "says FAIL with exit 0": {"keys": KEYS, "flag": "required", "says_fail": True},
}


@pytest.mark.parametrize("personality", PERSONALITIES.values(), ids=PERSONALITIES)
def test_a_real_launcher_understands_within_one_retry(personality, tmp_path):
    script = tmp_path / "launcher.py"
    script.write_text(LAUNCHER.format(**personality))
    spec_file = tmp_path / "spec.yaml"

    def ask(argv):
        done = subprocess.run([sys.executable, script, *argv], capture_output=True, text=True, check=False)
        return done.returncode, done.stderr + done.stdout

    schema = probe(ask, "gap_analysis", "vcn_aoi", stub_in(tmp_path))
    assert schema == Schema(spec_flag=personality["flag"], keys=personality["keys"])

    argv, spec = adapted(["vcn_aoi", "-e", str(spec_file), "threshold=0.5"], SPEC, schema)
    spec_file.write_text(yaml.safe_dump(spec))
    status, log = ask(["gap_analysis", *argv])
    assert (status, "Execution status: PASS" in log) == (0, True), log
    assert "min_recall: 0.99" in log
    assert "threshold: 0.5" in log
    assert not is_drift(log)

    stale = Schema(spec_flag="required", keys=KEYS if schema.keys != KEYS else OLD_KEYS)
    argv, spec = adapted(["vcn_aoi", "-e", str(spec_file)], SPEC, stale)
    spec_file.write_text(yaml.safe_dump(spec))
    assert is_drift(ask(["gap_analysis", *argv])[1])


def launcher(keys, flag):
    printed = "INFO: hello\n" + yaml.safe_dump(keys) + "Execution status: PASS\n"

    def ask(argv):
        assert argv[:2] == ["gap_analysis", "vcn_aoi"]
        assert argv[-1] == "--cfg=job"
        if ("-e" in argv and flag == "rejected") or ("-e" not in argv and flag == "required"):
            return 2, "error: that flag\n"
        return 0, printed

    return ask


@pytest.mark.parametrize("flag", ["required", "optional", "rejected"])
@pytest.mark.parametrize(
    "keys", [KEYS, OLD_KEYS, {"train": {"num_epochs": 10, "lights": ["a", "b"]}, "x": None}]
)
def test_probe(keys, flag, tmp_path):
    assert probe(launcher(keys, flag), "gap_analysis", "vcn_aoi", tmp_path / "s.yaml") == Schema(
        spec_flag=flag, keys=keys
    )


def test_an_image_without_an_answer_is_named_with_what_it_says(tmp_path):
    def ask(argv):
        return 1, f"\nno nvidia-smi ({'-e' in argv})\nExecution status: FAIL\n"

    with pytest.raises(
        ValueError, match=r"no nvidia-smi \(True\)' with -e, 'no nvidia-smi \(False\)' without"
    ):
        probe(ask, "gap_analysis", "vcn_aoi", tmp_path / "s.yaml")


def test_exit_0_without_keys_is_no_answer(tmp_path):
    with pytest.raises(ValueError, match="prints no keys for tmm nearest_neighbors"):
        probe(lambda argv: (0, "Execution status: FAIL\n"), "tmm", "nearest_neighbors", tmp_path / "s.yaml")


def test_the_stub_is_an_empty_spec_beside_the_folder_that_some_look_for(tmp_path):
    stub = stub_in(tmp_path / "new")
    assert yaml.safe_load(stub.read_text()) == {}
    assert (stub.parent / "experiment_specs").is_dir()


SURROUNDED = textwrap.dedent(
    """\
    2026-11-21 10:00:00,000 [TAO] [INFO] root 160: Registry
    loading: a
    WARNING: something
      File "x.py", line 3
    results_dir: ???
    train:
      lights:
      - a
      - b: 1
      note: 'x: y'
    lists:
    - 1
    -
      - 2
    threshold: -1.0
    ERROR: late
    Execution status: PASS
    Telemetry data couldn't be sent, but the command ran successfully.
    """
)


def test_keys_are_found_among_log_lines():
    assert printed_keys(SURROUNDED) == {
        "results_dir": "???",
        "train": {"lights": ["a", {"b": 1}], "note": "x: y"},
        "lists": [1, [2]],
        "threshold": -1.0,
    }
    assert printed_keys(SURROUNDED.replace("\n", "\r\n")) == printed_keys(SURROUNDED)


@pytest.mark.parametrize(
    "output", ["", "PASS", "a: [", "a: !!python/object:os.system x", "- a\n- b", "INFO: x"]
)
def test_no_keys(output):
    assert printed_keys(output) is None


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["", "???", "a", "x: y", "- z", "${a.b}", "#c"])
)
NAMES_OF_KEYS = st.text("abnoy_", min_size=1, max_size=5)
TREES = st.dictionaries(
    NAMES_OF_KEYS,
    st.recursive(
        LEAVES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES_OF_KEYS, inner, max_size=3),
        max_leaves=8,
    ),
    min_size=2,
)


@given(TREES, st.sampled_from(["", "INFO: x\n", "note: y\n/a/b.py: z\n", "  indented\n"]), st.booleans())
def test_printed_keys_are_read_back(tree, before, with_trailer):
    printed = before + yaml.safe_dump(tree, sort_keys=False)
    assert printed_keys(printed + ("Execution status: PASS\n" if with_trailer else "")) == tree


def test_kept_per_digest_and_action(tmp_path):
    first, second = Schema(spec_flag="required", keys=KEYS), Schema(spec_flag="rejected", keys=OLD_KEYS)
    assert kept(tmp_path, DIGEST, "gap_analysis", "vcn_aoi") is None
    keep(tmp_path, DIGEST, "gap_analysis", "vcn_aoi", first)
    keep(tmp_path, DIGEST, "tmm", "nearest_neighbors", second)
    assert kept(tmp_path, DIGEST, "gap_analysis", "vcn_aoi") == first
    assert kept(tmp_path, DIGEST, "tmm", "nearest_neighbors") == second
    assert kept(tmp_path, "sha256:" + "cd" * 32, "gap_analysis", "vcn_aoi") is None
    assert [path.name for path in (tmp_path / "cli_schema").iterdir()] == ["ab" * 32 + ".json"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"gap_analysis vcn_aoi": {"keys": 1}}'])
def test_a_broken_file_is_asked_again_and_replaced(content, tmp_path):
    keep(tmp_path, DIGEST, "a", "b", Schema(spec_flag="required", keys={}))
    (tmp_path / "cli_schema" / f"{'ab' * 32}.json").write_text(content)
    assert kept(tmp_path, DIGEST, "gap_analysis", "vcn_aoi") is None
    schema = Schema(spec_flag="required", keys=KEYS)
    keep(tmp_path, DIGEST, "gap_analysis", "vcn_aoi", schema)
    assert kept(tmp_path, DIGEST, "gap_analysis", "vcn_aoi") == schema


@pytest.mark.parametrize("digest", ["", "../x", "a/b", "sha256:", "/x", ".."])
def test_a_digest_is_no_path(digest, tmp_path):
    with pytest.raises(ValueError, match="is no image digest"):
        kept(tmp_path, digest, "a", "b")


@pytest.mark.parametrize(
    "line",
    [
        "x: error: requires the following argument: -e",
        "x: error: the following arguments are required: -e/--experiment_spec_file",
        "x: error: unrecognized arguments: -e /w/s.yaml",
        "Could not override 'top_k'.",
        "Key 'top_k' is not in struct",
        "omegaconf.errors.ConfigKeyError: Key 'top_k' not in 'GapConfig'",
        "ValueError: action not found",
        "omegaconf.errors.MissingMandatoryValue: Missing mandatory value: results_dir",
    ],
)
def test_drift(line):
    assert is_drift(f"INFO: start\n{line}\nExecution status: FAIL\n")


@pytest.mark.parametrize(
    "line",
    [
        "FileNotFoundError: /data/x.csv",
        "KeyError: 'getpwuid(): uid not found'",
        "CUDA out of memory",
        "no threshold",
    ],
)
def test_other_errors_are_no_drift(line):
    assert not is_drift(f"INFO: start\n{line}\nExecution status: FAIL\n")


def schema(*keys, flag="optional", **more):
    return Schema(spec_flag=flag, keys={**dict.fromkeys(keys), **more})


ARGV = ["act", "-e", "/w/spec.yaml"]


def test_what_the_image_knows_is_unchanged():
    spec = {"results_dir": "/r", "train": {"num_epochs": 3, "other": {"x": None}}}
    argv = ["act", "-e", "/w/spec.yaml", "train.num_epochs=4", "+train.new=1", "~train.old"]
    assert adapted(argv, spec, schema("results_dir", "train")) == (argv, spec)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(names[0], alias) for names in NAMES for alias in names[1:] if alias != "inference_csv"],
)
def test_every_alias_both_ways(ours, theirs):
    assert adapted(ARGV, {ours: "v"}, schema(theirs))[1] == {theirs: "v"}
    assert adapted(ARGV, {theirs: "v"}, schema(ours))[1] == {ours: "v"}
    assert adapted(ARGV, {ours: "v"}, schema(ours, theirs))[1] == {ours: "v"}
    assert adapted([*ARGV, f"{ours}=w"], {}, schema(theirs))[0] == [*ARGV, f"{theirs}=w"]


@pytest.mark.parametrize(
    ("key", "given", "known", "value"),
    [
        ("inference_results_dir", "/a/b", "inference_csv", "/a/b/inference.csv"),
        ("inference_results_dir", "/a/b/inference.csv", "inference_csv", "/a/b/inference.csv"),
        ("inference_results_dir", "/a/b/inference.csv", "inference_results_dir", "/a/b"),
        ("inference_results_dir", "/a/b", "inference_dir", "/a/b"),
        ("inference_csv", "/a/b/inference.csv", "inference_results_dir", "/a/b"),
    ],
)
def test_folder_and_file_of_the_inference(key, given, known, value):
    assert adapted(ARGV, {key: given}, schema(known))[1] == {known: value}
    assert adapted([*ARGV, f"{key}={given}"], {}, schema(known))[0][-1] == f"{known}={value}"


@pytest.mark.parametrize(
    "spec",
    [
        {"native": {"device": "cpu"}},
        {"device": "auto"},
        {"filter_mode": "post", "label_filter_strict": False, "exclude_parquet": None, "max_far": None},
        {"anything": None},
    ],
)
def test_ours_that_asks_for_nothing_is_left_out(spec):
    assert adapted([*ARGV, "native.seed=1"], {"a": 1, **spec}, schema("a")) == (ARGV, {"a": 1})


@pytest.mark.parametrize(
    ("key", "value"),
    [("filter_mode", "within_label"), ("exclude_parquet", "/x.parquet"), ("max_far", 0.0), ("other", 1)],
)
def test_an_unknown_key_that_asks_for_something_is_refused(key, value):
    with pytest.raises(ValueError, match=f"the image knows no key {key} .*Its keys: a, b"):
        adapted(ARGV, {key: value}, schema("a", "b"))


def test_a_key_that_the_image_knows_is_not_ours_alone():
    assert adapted(ARGV, {"device": "cpu", "max_far": 0.1}, schema("device", "max_far"))[1] == {
        "device": "cpu",
        "max_far": 0.1,
    }


def test_one_key_by_two_names_is_refused():
    with pytest.raises(ValueError, match="the spec gives output_dir twice, once as results_dir; keep one"):
        adapted(ARGV, {"output_dir": "/a", "results_dir": "/a"}, schema("output_dir"))


def test_mandatory_keys_that_are_not_given_are_all_named():
    known = schema(a="???", b="???", c=1, act={"checkpoint": "???", "x": 1}, other={"checkpoint": "???"})
    with pytest.raises(ValueError, match=r"keys for act that are not given: a, act\.checkpoint, b;"):
        adapted(ARGV, {"c": 2, "b": "???"}, known)
    adapted([*ARGV, "a=1"], {"b": 2, "act": {"checkpoint": "/c"}}, known)
    adapted([*ARGV, "a=1", "act.checkpoint=/c"], {"b": 2}, known)


def test_the_whole_spec_on_the_command_line():
    known = schema("images_dir", flag="rejected", train={"num_epochs": 1, "lights": None}, topn=5)
    spec = {"kpi_media_path": "", "train": {"num_epochs": 3, "lights": ["a", "b"]}, "topn": 4, "native": {}}
    argv, renamed = adapted(["act", "topn=6", "-e", "/w/spec.yaml"], spec, known)
    assert argv == ["act", "images_dir=''", "train.num_epochs=3", "train.lights=[a,b]", "topn=4", "topn=6"]
    assert renamed == {"images_dir": "", "train": spec["train"], "topn": 4}


def test_a_blank_cannot_go_onto_the_command_line():
    with pytest.raises(ValueError, match="results_dir holds a blank"):
        adapted(ARGV, {"results_dir": "/my data"}, schema("results_dir", flag="rejected"))
