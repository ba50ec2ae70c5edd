import json
import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tasks.embedding.sidecar import Sidecar
from tasks.errors import InputError, StageFailed
from tasks.mining.action import run
from tasks.mining.control import draw_control, with_random_pass
from tasks.mining.floor import apply_floor
from tasks.mining.ledger import select_new
from tasks.mining.pool import PoolSummary
from tasks.mining.report import render, write_report
from tasks.mining.report.actions import actions, always, median_similarity
from tasks.mining.report.checks import findings
from tasks.mining.report.facts import MiningFacts, ReportInputs
from tasks.mining.report.reading import read_facts
from tasks.mining.spec import NeighboursSpec
from tasks.reports.markdown import sections, table_rows, word_count

WEAK = ["missing"] * 4 + ["bridge"] * 3 + ["PASS"] * 3
POOL = ["MISSING"] * 8 + ["bridge"] * 6 + ["pass"] * 16
SIDECAR = Sidecar(
    spec_sha256="a" * 64,
    model="SigLIP",
    model_path="encoders/siglip",
    revision=None,
    weights_sha256="b" * 64,
    model_config_path=None,
    batch_size=64,
    dim=6,
    rows=0,
    input_sha256="c" * 64,
)


class Mining:
    """A folder in which a search has ended, made by the real action."""

    def __init__(self, folder: Path, images: Path) -> None:
        self.folder = folder
        self.images = images
        folder.mkdir(parents=True)

    def embed(
        self, side: str, labels: list[str] | None, count: int = 0, scale: float = 0.1, **more: Any
    ) -> None:
        count = len(labels) if labels is not None else count
        random = np.random.default_rng(len(side) + count)
        kinds = [one.strip().upper() for one in labels] if labels is not None else ["PASS"] * count
        order = sorted({*kinds, "MISSING", "BRIDGE", "PASS"})
        vectors = np.array([np.eye(6)[order.index(kind) % 6] for kind in kinds])
        vectors = (vectors + scale * random.standard_normal(vectors.shape)).astype(np.float32)
        paths = [self._image(f"{side}_{number}{more.get('ending', '')}.png") for number in range(count)]
        columns: dict[str, Any] = {"filepath": paths, "embedding": pa.array(list(vectors))}
        if labels is not None:
            columns["label"] = labels
        parquet = self.folder / f"{side}_embeddings.parquet"
        pq.write_table(pa.table(columns), parquet)
        SIDECAR.model_copy(update={"rows": count}).write(parquet)
        (self.folder / f"{side}_embeddings.log").write_text(f"{count} rows\nExecution status: PASS\n")
        spec = f"model: SigLIP\ninput_parquet: {self.folder / side}.parquet\n"
        (self.folder / f"{side}_embeddings_spec.yaml").write_text(spec)

    def search(self, output: str = "mined.parquet", **more: Any) -> None:
        spec = NeighboursSpec(
            source_parquet=self.folder / "source_embeddings.parquet",
            target_parquet=self.folder / "target_embeddings.parquet",
            output_parquet=self.folder / output,
            knn_metric="cosine",
            **more,
        )
        handler = logging.FileHandler(self.folder / "nearest_neighbors.log", encoding="utf-8")
        logging.getLogger("deft").addHandler(handler)
        try:
            run(spec)
        finally:
            logging.getLogger("deft").removeHandler(handler)
            handler.close()
        with (self.folder / "nearest_neighbors.log").open("a") as log:
            log.write((self.folder / "mining_summary.txt").read_text())
        (self.folder / "nearest_neighbors_spec.yaml").write_text(f"topn: {spec.topn}\nknn_metric: cosine\n")

    def tell(self, **more: Any) -> None:
        ReportInputs(
            **{"loop": False, "targets": Path("gaps.parquet"), "pool": Path("pool.csv")} | more
        ).write(self.folder)

    def choose(
        self, floor: float | None = 0.5, way: str = "nearest", rounds: int = 1, budget: int | None = None
    ) -> None:
        """What the loop does after the search; earlier rounds took images that the pool has no more."""
        iteration = self.folder.parent.parent
        filtered, ledger = iteration / "mining_filter", iteration.parent / "mining_history.json"
        source, target = (self.folder / f"{side}_embeddings.parquet" for side in ("source", "target"))
        kept = apply_floor(self.folder / "mined_raw.parquet", source, target, filtered, floor)
        candidates = filtered / f"{way}.parquet" if way != "nearest" else kept.candidates
        if way == "nearest_defects":
            with_random_pass(kept.candidates, source, 1, [], candidates)
        elif way == "random":
            draw_control(source, 5, 1, [], candidates)
        for number in range(1, rounds):
            old = iteration.parent / f"iter{number}"
            old.mkdir()
            pq.write_table(pa.table({"filepath": [f"old_{number}.png"]}), old / "candidates.parquet")
            select_new(ledger, number, old / "candidates.parquet", old / "mined.parquet", old / "s.json", 5)
        files = candidates, filtered / "mined.parquet", filtered / "mining_history_summary.json"
        chosen = select_new(ledger, rounds, *files, 5, budget)
        rows = [{"object_name": path} for path in pq.read_table(files[1])["filepath"].to_pylist()]
        if chosen.selected_count:
            pd.DataFrame(rows).to_csv(filtered / "mined_rows.csv", index=False)

    def _image(self, name: str) -> str:
        path = self.images / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 100, np.uint8)).save(path)
        return str(path)


@pytest.fixture
def alone(tmp_path: Path) -> Mining:
    """A mining that stands alone, embedded and not searched yet."""
    mining = Mining(tmp_path / "out", tmp_path / "images")
    mining.embed("target", WEAK)
    mining.embed("source", POOL)
    return mining


@pytest.fixture
def looped(tmp_path: Path) -> Mining:
    """The mining of an iteration, searched and not chosen from yet."""
    mining = Mining(tmp_path / "run" / "iter2" / "mining_results" / "2026-01-01_000000", tmp_path / "images")
    mining.embed("target", WEAK)
    mining.embed("source", POOL)
    mining.search("mined_raw.parquet")
    mining.tell(loop=True)
    return mining


def text_of(mining: Mining) -> str:
    return render(mining.folder).read_text(encoding="utf-8")


def validated(mining: Mining) -> dict[str, Any]:
    write_report(mining.folder)
    found: dict[str, Any] = json.loads((mining.folder / "validation.json").read_text())
    return found


def cells(section: str) -> dict[str, list[str]]:
    return {row[0]: row[1:] for row in table_rows(section)}


def test_a_mining_that_stands_alone_is_told_and_packed(alone: Mining):
    alone.search()
    alone.tell(pool_rows=33, pool_duplicates=2, pool_left_out=1)
    assert validated(alone)["status"] == "ok"
    text = (alone.folder / "Mining_Report.md").read_text()
    found = sections(text)
    assert len(found) == 7
    assert word_count(text) >= 600
    assert word_count(text, tables=False) <= 1200
    count = pq.read_metadata(alone.folder / "mined.parquet").num_rows
    assert (
        f"chose **{count} images** from a pool of 30 for the 10 weak samples; `mined.parquet`"
        in found["Verdict"]
    )
    assert "33 rows as given; 2 duplicates and 1 rows" in found["Inputs"]
    assert "History:" not in text
    assert "floor" not in found["Mining Run"]
    kept = {path.name for path in (alone.folder / "mining_config").iterdir()}
    assert kept == {
        "report_inputs.json", "target_embeddings_spec.yaml", "source_embeddings_spec.yaml",
        "nearest_neighbors_spec.yaml",
    }  # fmt: skip
    log = (alone.folder / "run.log").read_text()
    assert log.index("target_embeddings.log") < log.index("source_embeddings.log") < log.index("Total pairs")


def test_the_same_files_give_the_same_report(alone: Mining):
    alone.search()
    assert text_of(alone) == text_of(alone)


def test_the_mining_of_an_iteration_tells_floor_and_history(looped: Mining):
    looped.choose(floor=0.9, rounds=2, budget=6)
    assert validated(looped)["status"] == "ok"
    found = sections((looped.folder / "Mining_Report.md").read_text())
    assert "weak samples of iter2" in found["Verdict"]
    assert "6 newly selected, 7 cumulative over the run" in found["Verdict"]
    facts = read_facts(looped.folder)
    numbers = cells(found["Mining Run"])
    assert facts.loop is not None
    assert numbers["Kept by the similarity floor"] == [str(facts.loop.kept)]
    assert numbers["Rejected by the similarity floor"] == [str(facts.loop.rejected)]
    assert facts.loop.kept + facts.loop.rejected == facts.summary.unique_saved
    assert cells(found["Output Sanity"])["Rows as committed"][-1] == "pass"


def test_images_of_earlier_iterations_are_told_by_label(looped: Mining):
    pool = pq.read_table(looped.folder / "source_embeddings.parquet").select(["filepath"])
    pq.write_table(pool.slice(0, 8), looped.folder / "used_before.parquet")
    looped.search("mined_raw.parquet", exclude_parquet=looped.folder / "used_before.parquet")
    looped.choose()
    text = text_of(looped)
    note = cells(sections(text)["Per-Label Breakdown"])["MISSING"][2]
    assert "8 pool images carry the label, 0 of them mined and 8 mined in earlier iterations" in note


def test_a_run_from_before_the_inputs_were_written_is_told(looped: Mining):
    looped.choose()
    (looped.folder / "report_inputs.json").unlink()
    assert validated(looped)["status"] == "ok"
    assert "History:" in text_of(looped)


def test_labels_count_mined_images_by_their_nearest_weak_sample(alone: Mining):
    alone.search()
    rows = cells(sections(text_of(alone))["Per-Label Breakdown"])
    pairs = pq.read_table(alone.folder / "mined_pairs.parquet").to_pandas()
    near = pairs.sort_values("distance").drop_duplicates("source_filepath")["target_label"].str.upper()
    for label, count in near.value_counts().items():
        assert rows[label][:2] == [str(sum(one.upper() == label for one in WEAK)), str(count)]


@pytest.mark.parametrize(("way", "word"), [("nearest_defects", "PASS images drawn"), ("random", "control")])
def test_images_drawn_at_random_count_for_their_own_label(looped: Mining, way: str, word: str):
    looped.choose(way=way)
    found = sections(text_of(looped))
    assert word in found["Verdict"]
    mined = read_facts(looped.folder).mined_labels
    row = cells(found["Per-Label Breakdown"])["PASS"]
    assert row[1] == str(mined.count("PASS"))
    assert "drawn at random" in row[2]
    assert ("at random, as a control" in found["Verdict"]) == (way == "random")


def test_without_labels_one_sentence_says_why(alone: Mining):
    alone.embed("source", None, count=30)
    alone.search()
    assert validated(alone)["status"] == "ok"
    text = sections(text_of(alone))["Per-Label Breakdown"]
    assert "the pool has no column `label`" in text
    assert "N_mined" not in text


def test_the_report_quotes_why_labels_did_not_filter(alone: Mining):
    alone.embed("target", None, count=10)
    alone.search(filter_by_label="true")
    text = text_of(alone)
    assert "no-op: **yes**. The log says: `filter_by_label is on, but the column label is missing" in text
    assert "back-fill" in sections(text)["Recommended Actions"]
    assert "weak samples has no column" in text
    assert "had no effect" in sections(text)["Verdict"]


def test_topn_above_the_pool_is_told(alone: Mining):
    alone.search(topn=50)
    assert "topn was capped to 30" in text_of(alone)


def test_a_reused_pool_is_told_with_where_it_came_from(alone: Mining, tmp_path: Path):
    alone.search()
    origin = tmp_path / "earlier"
    origin.mkdir()
    (alone.folder / "source_embeddings_spec.yaml").rename(origin / "source_embeddings_spec.yaml")
    log = f"unchanged inputs: taken from {origin}, computed by shy-fox\n"
    (alone.folder / "source_embeddings.log").write_text(log)
    assert validated(alone)["status"] == "ok"
    found = sections((alone.folder / "Mining_Report.md").read_text())["Encoder Consistency"]
    assert cells(found)["Reused or computed"] == ["computed in this run", "reused, unchanged inputs"]
    assert f"Reused: taken from `{origin}`" in found
    assert (alone.folder / "mining_config" / "source_embeddings_spec.yaml").is_file()


def test_foreign_embeddings_are_unverified(alone: Mining):
    alone.search()
    (alone.folder / "source_embeddings.parquet.meta.json").unlink()
    found = validated(alone)
    assert found["status"] == "warn"
    assert [one["check"] for one in found["findings"]] == ["encoder"]
    assert "**Match: unverified**" in text_of(alone)


def test_nothing_above_the_floor_is_told_with_what_to_do(looped: Mining):
    looped.choose(floor=1.0)
    assert validated(looped)["mined"] == 0
    text = text_of(looped)
    assert "chose **no image**" in text
    assert "Lower `min_similarity`" in sections(text)["Verdict"]
    assert "`mined.parquet` is empty" in text


def test_awkward_names_are_text(tmp_path: Path):
    mining = Mining(tmp_path / "out", tmp_path / "bilder für |alle|")
    label = "<script>alert(1)</script>"
    mining.embed("target", [label, "a|b", "Lötbrücke *"], ending=" `<b>`")
    mining.embed("source", [label, "a|b", "PASS", "PASS"], ending=" |x")
    mining.search(topn=1)
    mining.tell(targets=Path("a|b <script>.parquet"))
    found = validated(mining)
    assert found["status"] == "warn"
    assert {one["check"] for one in found["findings"]} == {"output"}
    text = text_of(mining)
    outside = "".join(part for number, part in enumerate(text.split("`")) if number % 2 == 0)
    assert "<script" not in outside.lower()
    assert "&lt;SCRIPT&gt;ALERT(1)&lt;/SCRIPT&gt;" in text
    for section in sections(text).values():
        assert len({len(row) for row in table_rows(section)}) <= 2
    assert {"A\\|B", "LÖTBRÜCKE \\*"} <= set(cells(sections(text)["Per-Label Breakdown"]))
    checks = cells(sections(text)["Output Sanity"])
    assert checks["Path encoding: ASCII only"][-1] == "**FAIL**"
    assert checks["Path encoding: without blanks"][-1] == "**FAIL**"
    assert checks["Path encoding: without backslashes"][-1] == "pass"


def test_pictures_show_weak_samples_beside_what_was_found(alone: Mining):
    alone.search()
    text = sections(text_of(alone))["Per-Label Breakdown"]
    assert "![weak sample BRIDGE](<mining_images/" in text
    shown = [path.name for path in (alone.folder / "mining_images").iterdir()]
    assert all(f"<mining_images/{name}>" in text for name in shown)
    with Image.open(alone.folder / "mining_similarity.png") as chart:
        assert chart.size[0] > 100


def test_a_report_without_its_pictures_is_still_one(alone: Mining):
    alone.search()
    for path in alone.images.iterdir():
        path.unlink()
    found = validated(alone)
    assert [one["text"] for one in found["findings"]] == ["First paths exist: 0 of the first 5"]
    assert "A weak sample of" not in text_of(alone)


def test_a_search_that_has_not_ended_has_no_report(alone: Mining):
    with pytest.raises(InputError, match="summary of a mining"):
        render(alone.folder)


def test_a_missing_artifact_fails_the_report(alone: Mining):
    alone.search()
    (alone.folder / "target_embeddings.parquet").unlink()
    with pytest.raises(StageFailed, match=r"target_embeddings\.parquet is missing"):
        write_report(alone.folder)
    assert json.loads((alone.folder / "validation.json").read_text())["status"] == "error"
    assert (alone.folder / "Mining_Report.md").is_file()
    assert not (alone.folder / "run.log").exists()


def test_a_lost_result_fails_the_report(alone: Mining):
    alone.search()
    (alone.folder / "mined.parquet").unlink()
    with pytest.raises(StageFailed, match=r"mined\.parquet is missing"):
        write_report(alone.folder)


def test_an_output_that_was_meddled_with_is_told(alone: Mining):
    alone.search()
    pq.write_table(pa.table({"filepath": ["x.png", "x.png"]}), alone.folder / "mined.parquet")
    texts = " ".join(one["text"] for one in validated(alone)["findings"])
    assert "Duplicates: 1" in texts
    assert "not in the pool: 2" in texts
    assert "Rows as summarised" in texts


@pytest.fixture
def facts(looped: Mining) -> MiningFacts:
    looped.choose(rounds=2)
    return read_facts(looped.folder)


def rules(facts: MiningFacts, **more: Any) -> str:
    return "\n".join(actions(replace(facts, **more)))


def test_a_good_mining_asks_for_nothing(facts: MiningFacts):
    assert rules(facts, summary=replace(facts.summary, unique_saved=facts.wanted)) == ""
    assert "nothing to do" in always(facts)
    assert "golden" in always(replace(facts, loop=None))


def test_few_different_images_mean_a_redundant_or_an_exhausted_pool(facts: MiningFacts):
    few = replace(facts.summary, unique_saved=facts.wanted // 3, source_rows=10_000)
    assert "very redundant" in rules(facts, summary=few)
    assert "nearly exhausted" in rules(facts, summary=replace(few, source_rows=few.unique_saved + 1))


def test_half_of_the_candidates_mined_before_asks_for_more(facts: MiningFacts):
    assert facts.loop is not None
    for rate, told in ((0.5, True), (0.49, False)):
        selection = facts.loop.selection.model_copy(update={"historical_candidate_rate": rate})
        text = rules(facts, loop=replace(facts.loop, selection=selection))
        assert ("mined in an earlier iteration: widen `topn`" in text) == told


def test_images_that_have_little_in_common_are_named_unrelated(facts: MiningFacts):
    assert facts.pairs is not None
    for similarity, told in ((0.59, True), (0.6, False)):
        pairs = facts.pairs.assign(similarity=similarity)
        assert median_similarity(replace(facts, pairs=pairs)) == similarity
        assert ("Unrelated look" in rules(facts, pairs=pairs)) == told
    euclidean = facts.pairs.assign(similarity=None)
    assert "Unrelated" not in rules(facts, pairs=euclidean)


def test_labels_that_got_nothing_are_pool_gaps(facts: MiningFacts):
    targets = replace(facts.targets, labels=[*(facts.targets.labels or ()), "A|B", "A|B"])
    assert "no pool image is labelled **A\\|B**, as 2 weak samples are" in rules(facts, targets=targets)
    text = rules(facts, mined=[], mined_labels=[])
    assert "**MISSING** has 4 weak samples and no mined image, though 8 pool images carry the label" in text
    text = rules(facts, mined=[], mined_labels=[], used_before=Counter({"MISSING": 8, "BRIDGE": 5}))
    assert text.count("earlier iterations have mined all of them") == 1
    unlabelled = replace(facts.pool, labels=None)
    assert "not checkable" in rules(facts, pool=unlabelled)


def test_a_yield_that_breaks_down_is_told(facts: MiningFacts):
    assert facts.loop is not None
    inputs = ReportInputs(loop=True, targets=Path("x"), pool=Path("y"), mined_before=2 * facts.loop.kept + 2)
    assert "Low yield" in rules(facts, inputs=inputs)
    assert "Low yield" not in rules(facts, inputs=inputs.model_copy(update={"mined_before": 2}))


def test_floor_and_budget_that_cut_are_told(facts: MiningFacts):
    assert facts.loop is not None
    loop = replace(facts.loop, kept=2, rejected=9, floor=0.9)
    assert "rejected 9 of 11 images" in rules(facts, loop=loop)
    selection = facts.loop.selection.model_copy(update={"over_budget_count": 3, "max_new_rows": 5})
    assert "left 3 candidates" in rules(facts, loop=replace(facts.loop, selection=selection))


def test_different_encoders_are_told_first(facts: MiningFacts):
    assert facts.pool.sidecar is not None
    other = facts.pool.sidecar.model_copy(update={"weights_sha256": "d" * 64})
    text = rules(facts, pool=replace(facts.pool, sidecar=other))
    assert text.startswith("The weak samples and the pool were embedded by different encoders")


def test_inputs_are_told_from_what_became_of_the_pool(tmp_path: Path):
    summary = PoolSummary(tmp_path / "p.parquet", None, 40, 30, 4, 3, 2, 1, {})
    inputs = ReportInputs.of(Path("gaps.parquet"), Path("pool.csv"), summary, loop=False)
    assert (inputs.pool_rows, inputs.pool_left_out, inputs.pool_duplicates) == (40, 9, 1)
    assert inputs.targets.is_absolute()


@pytest.mark.parametrize(
    ("old", "new", "level", "says"),
    [
        ("## 6. Output Sanity", "## 6. Other", "error", "'Output Sanity' is missing"),
        ("`mined.parquet`", "the file", "warn", "Verdict: no word of 'mined.parquet'"),
        ("Match: yes", "Match: no", "warn", "does not say Match: yes"),
        ("Concatenate", "Join", "warn", "no word of 'concatenate'"),
    ],
)
def test_a_report_that_leaves_things_out_is_found_out(
    alone: Mining, old: str, new: str, level: str, says: str
):
    alone.search()
    text, facts = text_of(alone), read_facts(alone.folder)
    assert findings(facts, text) == []
    assert old in text
    found = findings(facts, text.replace(old, new))
    assert (level, True) in [(one.level, says in one.text) for one in found]


def test_embeddings_without_vectors_are_told(alone: Mining):
    alone.search()
    parquet = alone.folder / "source_embeddings.parquet"
    pq.write_table(pq.read_table(parquet).drop_columns("embedding"), parquet)
    assert "has no column embedding" in str(validated(alone)["findings"])
