"""What a flow needs of an action works where the engine's packages are not installed."""

import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.artifacts import write_csv, write_json
from tasks.classifier.sample import ShapeSizes, write_shapes_workspace
from tasks.classifier.workspace import inference_values, read_baseline, training_values, write_row_lists
from tasks.dataset.sample import SampleSizes, write_sample_workspace
from tasks.dataset.specs import read_spec
from tasks.dataset.table import MANDATORY, lighting_of, read_table, row_files
from tasks.registry import ACTIONS

SIZES = SampleSizes(training=12, validation=8, kpi=8, pool=8, training_defects=0.3, crop=32)
SHAPES = ShapeSizes(train=12, validation=8, kpi=8, pool=8)

WITHOUT_ENGINE = """
import sys

ENGINE = {"torch", "cv2", "safetensors", "transformers", "kornia", "onnx", "onnxscript"}

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ENGINE:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""
EVERY_MODULE_OF_A_FLOW = """
import importlib, pkgutil
import blocks, deployments, flows, tasks
from flows import FLOWS

def modules(package, inside=""):
    found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    return [module.name for module in found if inside in module.name]

for place in FLOWS.values():
    module, name = place.split(":")
    getattr(importlib.import_module(module), name)
for name in [*modules(flows), *modules(blocks), *modules(deployments)]:
    importlib.import_module(name)
for part in (".task", ".action", ".automl.", ".deft.", ".pipeline.", ".preflight."):
    for name in modules(tasks, part):
        importlib.import_module(name)
"""
WHAT_A_STAGE_ASKS = """
import json
from tasks.registry import ACTIONS

values = json.loads(sys.argv[1])
answers = {}
for action in ACTIONS:
    spec = action.spec(values[action.title])
    answers[action.title] = {
        "folder": str(action.code.folder(spec)),
        "outputs": {name: str(path) for name, path in action.code.outputs(spec).items()},
        "reads": [str(path) for path in action.code.reads(spec)],
        "digest": action.digest(spec),
    }
print(json.dumps(answers))
"""
RUN_ACTION = """
from tasks.action import console_main
from tasks.registry import actions_of

console_main(actions_of(sys.argv.pop(1)))
"""
HEAVY = (
    "visual_changenet train",
    "visual_changenet inference",
    "visual_changenet evaluate",
    "visual_changenet export",
    "anomalygen generate",
    "image_classifier train",
    "image_classifier inference",
)


def without_engine(program, *arguments):
    """Run a program in a Python that has none of the engine's packages."""
    command = [sys.executable, "-c", WITHOUT_ENGINE + program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


class Inputs:
    """Small workspaces of both profiles, files of earlier stages, and the values of every action."""

    def __init__(self, root):
        self.root = root
        self.space = write_sample_workspace(root / "ws", sizes=SIZES, lights=("SolderLight",), num_epochs=1)
        self.shapes = write_shapes_workspace(root / "shapes", seed=1, sizes=SHAPES)
        self.lists = write_row_lists(self.shapes, root / "lists")
        pictures = [str(file) for file in self.pictures(self.space.kpi_csv, "input_path")]
        columns = {"filepath": pictures, "label": ["MISSING"] * len(pictures)}
        self.parquet = root / "gaps.parquet"
        pq.write_table(pa.table(columns), self.parquet)
        self.checkpoint = root / "model.pth"
        self.checkpoint.write_bytes(b"weights")
        self.scores = root / "scores" / "inference.csv"
        write_csv(self.scores, ["siamese_score"], [{"siamese_score": 1}])
        (root / "tree").mkdir()
        row = dict.fromkeys((*MANDATORY, "origin"), "new") | {"label": "MISSING"}
        self.new_rows = write_csv(root / "new_rows.csv", list(row), [row])

    def pictures(self, csv, column):
        lighting = lighting_of(self.space.baseline_spec)
        return [
            file
            for files in row_files(read_table(csv), self.space.images_dir, lighting, column)
            for file in files
        ]

    def out(self, name):
        return self.root / "out" / name

    def changenet(self, name):
        spec = read_spec(self.space.baseline_spec) | {"results_dir": self.out("model")}
        csvs = {"train": self.space.training_csv, "validation": self.space.validation_csv}
        for key, csv in {**csvs, "infer": self.space.kpi_csv, "test": self.space.kpi_csv}.items():
            data_set = {"csv_path": csv, "images_dir": self.space.images_dir}
            spec["dataset"]["classify"][f"{key}_dataset"] = data_set
        if name != "train":
            spec[name] = {"checkpoint": self.checkpoint}
        return spec

    def classifier(self, name):
        given = read_baseline(self.shapes), self.shapes
        if name == "train":
            return training_values(
                *given,
                training_csv=self.lists.train,
                validation_csv=self.lists.validation,
                results_dir=self.out("classifier"),
                num_epochs=1,
            )
        return inference_values(
            *given, rows_csv=self.lists.kpi, checkpoint=self.checkpoint, results_dir=self.out("scored")
        )

    def values(self):
        space, train_yaml = self.space, self.space.baseline_spec
        rows = {"workspace": space.root, "train_yaml": train_yaml}
        results = {name: {"results_dir": self.out(name)} for name in ("gaps", "sdg", "rows", "route", "kpi")}
        scored = {"inference_csv": self.scores, **results["kpi"]}
        predictions = write_json(self.root / "predictions.json", [])
        return {
            "gap_analysis vcn_aoi": {
                "inference_results_dir": self.scores.parent, "train_config": train_yaml, **results["gaps"]
            },
            "gap_analysis vlm_bcq": {"predictions_json": predictions, **results["gaps"]},
            "embedding image_embeddings": {
                "input_parquet": self.parquet, "output_parquet": self.out("pool.parquet")
            },
            "tmm nearest_neighbors": {
                "source_parquet": self.parquet,
                "target_parquet": self.parquet,
                "output_parquet": self.out("mined.parquet"),
            },
            **{
                f"visual_changenet {name}": self.changenet(name)
                for name in ("train", "inference", "evaluate", "export")
            },
            "anomalygen generate": {
                "gaps_parquet": self.parquet,
                "clean_csv": space.training_csv,
                "images_dir": space.images_dir,
                "train_yaml": train_yaml,
                "keep_out": [space.kpi_csv],
                **results["sdg"],
            },
            "anomalygen ingest": {
                "sdg_dir": self.root / "tree", "images_out": self.out("images"), "name": "one",
                **rows, **results["rows"],
            },
            **{f"image_classifier {name}": self.classifier(name) for name in ("train", "inference")},
            "routing route": {"gaps_parquet": self.parquet, **results["route"]},
            "dataset assemble": {
                "previous_csv": space.training_csv, "first": True, "new_rows_csv": self.new_rows,
                "images_dir": space.images_dir, "validation_csv": space.validation_csv,
                "kpi_csv": space.kpi_csv, "iteration": 1, **rows, **results["rows"],
            },
            "evaluation far_at_recall": scored,
            "evaluation measure": {**scored, "iter_label": "iter1", "checkpoint_kind": "latest"},
        }  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return Inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def values(inputs):
    return json.loads(json.dumps(inputs.values(), default=str))


@pytest.fixture(scope="module")
def answers(values):
    done = without_engine(WHAT_A_STAGE_ASKS, json.dumps(values))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_flow_and_all_that_it_calls_is_imported():
    done = without_engine(EVERY_MODULE_OF_A_FLOW)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.title)
def test_a_stage_learns_the_same_as_beside_the_engine(answers, values, action):
    spec = action.spec(values[action.title])
    assert answers[action.title] == {
        "folder": str(action.code.folder(spec)),
        "outputs": {name: str(path) for name, path in action.code.outputs(spec).items()},
        "reads": [str(path) for path in action.code.reads(spec)],
        "digest": action.digest(spec),
    }
    assert answers[action.title]["outputs"]


@pytest.mark.parametrize("name", ["train", "inference"])
def test_pictures_of_pairs_are_read(answers, inputs, name):
    space = inputs.space
    csvs = (space.training_csv, space.validation_csv) if name == "train" else (space.kpi_csv,)
    pictures = {
        str(file)
        for csv in csvs
        for side in ("input_path", "golden_path")
        for file in inputs.pictures(csv, side)
    }
    answer = answers[f"visual_changenet {name}"]
    assert set(answer["reads"]) == pictures
    assert answer["folder"] == str(inputs.out("model") / name)


def test_pictures_to_paint_on_and_those_kept_out_are_read(answers, inputs):
    space = inputs.space
    pictures = [
        *inputs.pictures(space.training_csv, "golden_path"),
        *inputs.pictures(space.kpi_csv, "input_path"),
    ]
    assert set(map(str, pictures)) <= set(answers["anomalygen generate"]["reads"])


def test_pictures_of_classes_are_read(answers, inputs):
    pictures = [inputs.shapes / folder for folder in ("train", "validation")]
    expected = {str(file) for folder in pictures for file in folder.glob("*/*")}
    assert set(answers["image_classifier train"]["reads"]) == expected


@pytest.mark.parametrize("title", HEAVY)
def test_doing_the_work_is_one_line_that_says_what_to_install(values, tmp_path, title):
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(values[title]))
    category, name = title.split()
    done = without_engine(RUN_ACTION, category, name, "-e", spec)
    assert done.returncode == 1
    errors = [line for line in done.stdout.splitlines() if line.startswith("ERROR: ")]
    assert len(errors) == 1
    assert errors[0].startswith(f"ERROR: {title} needs the package ")
    assert errors[0].endswith("install it with: pip install 'deft-flows[engine]'")
