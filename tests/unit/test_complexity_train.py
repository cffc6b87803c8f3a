"""Training on synthetic outcomes: what is fitted, what is exported, and the commands."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from router.cli.evaluate import evaluate
from router.cli.train import train
from router.complexity import artefact
from router.complexity import train as fitting
from router.complexity.artefact import Artefact, File
from router.complexity.evaluate import request_of
from router.complexity.outcomes import Example, Observed, Source, subjects_of
from router.complexity.registry import load_estimator
from router.complexity.trained import BLEND, TrainedEstimator
from router.domain.deployment import Tier
from router.domain.errors import RouterError

DATA = Path(__file__).parents[2].parent / "shared/data/outcomes/mmlu_two_models.jsonl.gz"

EASY = ("what is the colour of the sea", "who wrote that book about whales", "name a fruit that is red")
HARD = ("prove the lemma about compact operators", "derive the integral of this polynomial", "solve for x and y")


def outcomes(rows: int, seed: int = 0) -> list[Example]:
    """Half easy, half hard prompts; small does well on the easy half only, large on both."""
    rng = random.Random(seed)
    made = []
    for number in range(rows):
        hard = rng.random() < 0.5
        prompt = f"{rng.choice(HARD if hard else EASY)} {rng.choice('abcdefgh')} {rng.randrange(1000)}"
        small = float(rng.random() < (0.25 if hard else 0.9))
        large = float(rng.random() < (0.85 if hard else 0.92))
        made.append(Example(prompt, {"tiny": Observed(small), "big": Observed(large)}, "syn", str(number)))
    return made


def write(path: Path, examples: list[Example]) -> Path:
    lines = "\n".join(
        json.dumps(
            {"id": e.id, "source": e.source, "prompt": e.prompt}
            | {"outcomes": {m: {"quality": o.quality} for m, o in e.outcomes.items()}}
        )
        for e in examples
    )
    raw = lines.encode()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def source(examples: list[Example], name: str = "syn.jsonl") -> Source:
    return Source(File(name, "0" * 64, len(examples)), tuple(examples))


@pytest.fixture(scope="module")
def app() -> typer.Typer:
    made = typer.Typer()
    made.command()(train)
    made.command()(evaluate)
    return made


@pytest.fixture(scope="module")
def fitted() -> Artefact:
    return fitting.train([source(outcomes(300))])


def test_the_served_heads_equal_scikit_learn() -> None:
    """Every member's log odds, and so the blend's, agree with scikit-learn's own to 1e-6, through the file's bytes."""
    examples = outcomes(240)
    data = fitting.prepare(examples, seed=0)
    everything = np.ones(len(examples), np.bool_)
    inputs = fitting.fit_inputs(data, everything)
    dense = fitting.dense_of(data, inputs, everything)
    art = fitting.train([source(examples)])
    art = artefact.load(artefact.dump(art.model, art.lineage))
    estimator = TrainedEstimator(art.model)
    subject = subjects_of([source(examples)], (), ())[0]
    members = fitting.fit_members(dense, data.flags, inputs, subject, everything, 0)
    served = [estimator.dense(request_of(e.prompt)) for e in outcomes(40, seed=9)]
    theirs = members.logits(np.array([row for row, _ in served]), np.array([flags for _, flags in served]), inputs)
    ours = np.array([estimator._predictor.logits(*one)[:, 0] for one in served]).T
    assert subject.model == art.model.info[0].model
    assert np.abs(ours - theirs).max() < 1e-6
    assert np.abs(np.array(BLEND) @ ours - np.array(BLEND) @ theirs).max() < 1e-6
    assert np.ptp(ours, axis=1).min() > 0.1


def test_calibration_reads_the_heads_own_log_odds_and_those_of_the_tiers(fitted: Artefact) -> None:
    """P(adequate) is the fitted formula on a head's own and the tiers' mean log odds, whichever heads are served."""
    heads, info = fitted.model.heads, fitted.model.info
    whole = TrainedEstimator(fitted.model)
    request = request_of(f"{HARD[0]} c 12")
    z = np.array(BLEND) @ whole._predictor.logits(*whole.dense(request))
    common = np.mean([one for one, head in zip(z, info, strict=True) if head.tier is not None])
    assert np.abs(heads.adequate[:, 1]).min() > 0.01
    for index, head in enumerate(info):
        own, shared, offset = heads.adequate[index]
        curve = 1.0 / (1.0 + np.exp(-(own * z[index] + shared * common + offset)))
        expected = curve + np.interp(curve, heads.bound_at[index], heads.lift[index])
        assert head.model is not None
        assert whole.estimate(request).of(head.model, Tier.SMALL) == pytest.approx(expected, abs=1e-9)
        alone = TrainedEstimator(fitted.model, {head.model: index})
        assert alone.estimate(request).of(head.model, Tier.SMALL) == pytest.approx(expected, abs=1e-9)


def test_what_the_calibration_curve_misses_is_made_good() -> None:
    """Where adequate shares leave the curve in a shape that no slope can follow, most of the gap is lifted away, rows
    stay in order; where they leave it by chance only, next to nothing is."""
    rng = np.random.default_rng(0)
    p = rng.uniform(0.2, 0.8, 4000)
    bent = p + 0.12 * np.sin((p - 0.2) / 0.6 * 2.0 * np.pi)
    for truth, least, most in ((bent, 0.7, 1.0), (p, 0.0, 0.3)):
        true = (rng.random(4000) < truth).astype(float)
        at, lift, bound = fitting.lifts(p, true)
        share = np.array([true[part].mean() for part in np.array_split(np.argsort(p, kind="stable"), len(at))])
        removed = 1.0 - np.linalg.norm(share - at - lift) / np.linalg.norm(share - at)
        assert least <= removed <= most
        assert (np.diff(at + lift) >= 0.0).all()
        assert (np.diff(bound) >= 0.0).all()
        assert (bound < share + 0.05).all()


def test_the_gain_is_learned(fitted: Artefact) -> None:
    """On prompts of the same kinds, hard ones are predicted to gain more from large, and small to fail them."""
    estimator = TrainedEstimator(fitted.model).serving((("tiny", Tier.SMALL), ("big", Tier.LARGE)))
    easy, hard = (estimator.estimate(request_of(f"{text} b 77")) for text in (EASY[0], HARD[0]))
    gains = [said.of("big", Tier.LARGE) - said.of("tiny", Tier.SMALL) for said in (easy, hard)]
    assert gains[1] > gains[0] + 0.2
    assert hard.complexity > easy.complexity + 0.2
    assert all(said.low(m, t) < said.of(m, t) for said in (easy, hard) for m, t in (("tiny", Tier.SMALL),))


def test_the_calibration_table_is_honest_about_what_was_fitted(fitted: Artefact) -> None:
    """One row per head with rows, base rate and out-of-fold figures; heads say which tier they stand for."""
    table = {row.subject: row for row in fitted.lineage.calibration}
    assert table.keys() == {"tiny", "big"}
    assert table["tiny"].rows == 300
    assert table["tiny"].auc is not None
    assert table["tiny"].auc > 0.7
    assert table["tiny"].ece < 0.12
    assert {head.model: head.tier for head in fitted.model.info} == {"tiny": Tier.SMALL, "big": Tier.LARGE}


def test_the_same_files_and_seed_give_the_same_bytes() -> None:
    """Training is deterministic; another seed is another artefact."""
    few = [source(outcomes(60))]
    first, again, other = (fitting.train(few, seed=seed) for seed in (1, 1, 2))
    dumped = [artefact.dump(one.model, one.lineage) for one in (first, again, other)]
    assert dumped[0] == dumped[1] != dumped[2]


def test_graded_quality_and_a_model_that_never_fails_can_be_learned() -> None:
    """Targets between 0 and 1, and targets all alike, are no obstacle; quality keeps its own scale."""
    rng = random.Random(3)
    rows = [
        Example(f"{rng.choice(EASY)} {n}", {"graded": Observed(0.3 + 0.4 * rng.random()), "sure": Observed(1.0)})
        for n in range(160)
    ]
    said = TrainedEstimator(fitting.train([source(rows)]).model).estimate(request_of(f"{EASY[1]} 5"))
    assert said.qualities["graded"] == pytest.approx(0.5, abs=0.1)
    assert said.of("sure", Tier.LARGE) > 0.97


def test_tiers_are_the_mean_of_the_models_that_stand_for_them() -> None:
    """Two named small models make one small head; a model that nobody named makes none."""
    rows = [Example(f"q {n}", {"a": Observed(1.0), "b": Observed(0.0), "c": Observed(float(n % 2))}) for n in range(60)]
    found = {s.name: s for s in subjects_of([source(rows)], ("a", "b"), ())}
    assert found.keys() == {"a", "b", "c", "tier: small"}
    assert found["tier: small"].adequate.tolist() == [0.5] * 60


def test_too_few_outcomes_are_refused() -> None:
    """Fewer than fifty rows make no head, and the error says so."""
    with pytest.raises(RouterError, match="50 outcomes"):
        fitting.train([source(outcomes(20))])
    with pytest.raises(RouterError, match="distinct prompts"):
        fitting.train([source([Example("always the same", {"m": Observed(1.0)})] * 60)])


def test_train_then_evaluate_by_command(app: typer.Typer, tmp_path: Path) -> None:
    """`router train` prints lineage, table and digest; `router evaluate` finds the signal in rows it has not seen."""
    rows, held = write(tmp_path / "rows.jsonl.gz", outcomes(200)), write(tmp_path / "held.jsonl", outcomes(200, seed=5))
    out, report = tmp_path / "model.artefact", tmp_path / "report.json"
    told = CliRunner().invoke(app, ["train", str(rows), "--out", str(out), "--small", "tiny", "--large", "big"])
    assert told.exit_code == 0, told.output
    assert all(word in told.output for word in ("rows.jsonl.gz", " 200 ", "Brier", "tiny", "sha256:"))
    assert artefact.digest(out.read_bytes()) in told.output
    command = ["evaluate", str(held), "--model", str(out), "--small", "tiny", "--large", "big", "--json", str(report)]
    told = CliRunner().invoke(app, command)
    assert told.exit_code == 0, told.output
    found = json.loads(report.read_text())
    overall = found["overall"]
    assert found["by_source"].keys() == {"syn"}
    assert overall["apgr"] > 0.65
    assert overall["auc"] > 0.65
    assert overall["cpt50"] < overall["cpt80"] < overall["cpt95"] <= 100
    assert overall["ece"].keys() == {"tiny", "big"}
    assert 0 < overall["predict_us_p50"] <= overall["predict_us_p99"]


def test_compact_artefacts_say_nearly_the_same(fitted: Artefact) -> None:
    """16-bit n-gram weights are smaller, and move no probability by more than a thousandth."""
    whole, half = (artefact.dump(fitted.model, fitted.lineage, half=h) for h in (False, True))
    assert len(half) < len(whole)
    for text in (*EASY, *HARD):
        said = [load_estimator(data).estimate(request_of(text)).of("tiny", Tier.SMALL) for data in (whole, half)]
        assert said[0] == pytest.approx(said[1], abs=1e-3)


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [("gone.jsonl", None, "No such file"), ("bad.jsonl", b"{", "bad.jsonl:1"), ("cut.gz", b"\x1f\x8b\x08", "cut.gz")],
)
def test_unreadable_files_are_named(
    app: typer.Typer, tmp_path: Path, name: str, content: bytes | None, what: str
) -> None:
    """A missing, broken or cut-off file is an error that names it, not a traceback of ours."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    told = CliRunner().invoke(app, ["train", str(tmp_path / name), "--out", str(tmp_path / "m")])
    assert isinstance(told.exception, RouterError)
    assert what in str(told.exception)


@pytest.mark.skipif(not DATA.exists(), reason="needs ../shared/data/outcomes, which is no part of the project")
def test_real_outcomes_beat_random_on_prompts_left_out() -> None:
    """Eight hundred MMLU rows already teach more than chance."""
    from router.complexity.evaluate import area, recovered
    from router.complexity.outcomes import read_outcomes

    examples = list(read_outcomes(gzip.decompress(DATA.read_bytes()).splitlines(), DATA.name))
    random.Random(0).shuffle(examples)
    small, large = "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"
    art = fitting.train([source(examples[:800])], small=[small], large=[large])
    estimator = TrainedEstimator(art.model).serving(((small, Tier.SMALL), (large, Tier.LARGE)))
    held = examples[800:3300]
    said = [estimator.estimate(request_of(e.prompt)) for e in held]
    score = np.array([one.of(large, Tier.LARGE) - one.of(small, Tier.SMALL) for one in said])
    gain = np.array([e.outcomes[large].quality - e.outcomes[small].quality for e in held])
    assert area(recovered(score, gain)) > 0.55
