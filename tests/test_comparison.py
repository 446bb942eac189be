"""Comparing: every option goes where it belongs, the order is right, and what cannot be compared is refused."""

import json
import math
import random
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import observing

from charlm import checkpoint, comparison
from charlm.comparison import (
    Comparison,
    ComparisonObserver,
    Conditions,
    Row,
    compare,
    lead,
    notes,
    pairs_table,
    plan,
    to_train,
    trained_already,
)
from charlm.corpus import Origin, Split, Text
from charlm.errors import CheckpointError, TrainingFault, UsageError
from charlm.evaluation import Difference, Evaluation, paired_difference
from charlm.models import ARCHITECTURES, NGram
from charlm.tokenizers import Bytes, Characters, SentencePiece
from charlm.training import Budget, TrainingConfig, model_config, recipe_of

WORDS = ["the", "cat", "sat", "on", "a", "mat.\n", "and", "saw", "that", "dog"]
TEXT = " ".join(random.Random(0).choices(WORDS, k=3000))
TRAINING = TrainingConfig(budget="3steps", batch=4, segment=16, precision="float32")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cats.txt").write_text(TEXT)
    return tmp_path


def prepared(
    names, *, kind=Characters, source="cats.txt", training=TRAINING, vocabulary=None, again_disturbed=False, **options
):
    origin = Origin((source,))
    split = origin.open()
    tokenizer = kind.train(split.training.chunks(), kind.Config(**vocabulary or {}))
    plans = plan(names, "tiny", options, training, split.training.characters)
    history = checkpoint.History(corpus=origin.describe(split))
    return split, to_train(plans, split, tokenizer, history=history, again_disturbed=again_disturbed)


class TestPlan:
    def test_an_option_goes_to_those_that_have_it(self):
        plans = plan(["ngram", "lstm", "transformer"], "tiny", {"width": 24, "order": 3, "heads": 3}, TRAINING, 1000)
        assert plans["ngram"].config.order == 3
        assert plans["lstm"].config.width == plans["transformer"].config.width == 24
        assert plans["transformer"].config.heads == 3

    def test_what_is_not_given_is_what_train_would_take(self):
        for name, chosen in plan(ARCHITECTURES, "auto", {}, TRAINING, 10**6).items():
            assert chosen.config == model_config(name, "auto", {}, 10**6, Budget.parse("3steps"))
            assert chosen.training.batch == 4
            assert chosen.training.optimizer == recipe_of(name).get("optimizer")

    def test_an_option_that_none_has_names_who_has_it(self):
        with pytest.raises(UsageError, match=r"`heads` is not an option of ngram or lstm; transformer has it"):
            plan(["ngram", "lstm"], "tiny", {"heads": 2}, TRAINING, 1000)
        with pytest.raises(UsageError, match=r"`wings` is not an option of gru$"):
            plan(["gru"], "tiny", {"wings": 2}, TRAINING, 1000)

    def test_a_value_that_one_cannot_have_names_it(self):
        with pytest.raises(UsageError, match=r"`activation` must be one of tanh, relu.* \(for feedforward\)"):
            plan(["feedforward", "transformer"], "tiny", {"activation": "swiglu"}, TRAINING, 1000)

    def test_named_twice_is_planned_once(self):
        assert list(plan(["gru", "lstm", "gru"], "tiny", {}, TRAINING, 1000)) == ["gru", "lstm"]


class TestCompare:
    def test_every_architecture_in_order_on_the_same_text(self):
        split, sources = prepared(ARCHITECTURES, order=3, cache=0)
        result = compare(sources, split)
        figures = [row.evaluation.bits_per_character for row in result.rows]
        assert figures == sorted(figures)
        assert {row.architecture for row in result.rows} == set(ARCHITECTURES)
        assert {row.evaluation.text_sha256 for row in result.rows} == {split.held_out.sha256}
        assert {row.evaluation.characters for row in result.rows} == {split.held_out.characters}
        assert set(result.baselines) == {"uniform", "gzip -9", "xz -9"}
        assert not result.stopped
        for row in result.rows:
            assert row.difference.mean == pytest.approx(row.evaluation.bits_per_character - figures[0], abs=1e-12)
            assert row.difference.low <= row.difference.mean <= row.difference.high
            assert row.run == checkpoint.RUNS / f"cats-{row.architecture}"
            assert row.parameters == checkpoint.load(row.run).model.parameters_count > 0
            assert 0 < len(row.sample) <= comparison.SAMPLE_CHARACTERS
            assert row.sample.isprintable()
            assert not row.upper_bound

    def test_trained_runs_give_the_figures_they_had_when_trained(self):
        split, sources = prepared(["gru", "ngram"], order=3)
        first = compare(sources, split)
        again_split, again = trained_already([row.run for row in reversed(first.rows)])
        second = compare(again, again_split)
        assert again_split.held_out.sha256 == split.held_out.sha256
        assert [row.run for row in second.rows] == [row.run for row in first.rows]
        for a, b in zip(first.rows, second.rows, strict=True):
            assert a.evaluation.bits_per_character == b.evaluation.bits_per_character
            assert (a.sample, a.training_seconds, a.parameters) == (b.sample, b.training_seconds, b.parameters)

    def test_tokenizers_differ_and_are_still_compared(self):
        paths = []
        for kind in (Bytes, Characters):
            split, sources = prepared(["rnn"], kind=kind)
            paths += [row.run for row in compare(sources, split).rows]
        assert [path.name for path in paths] == ["cats-rnn", "cats-rnn-2"]
        split, sources = trained_already(paths)
        assert {row.tokenizer for row in compare(sources, split).rows} == {"bytes", "characters"}

    def test_sentencepiece_is_an_upper_bound(self):
        split, sources = prepared(["feedforward"], kind=SentencePiece, vocabulary={"vocab_size": 266})
        (row,) = compare(sources, split).rows
        assert row.upper_bound
        assert row.to_json()["upper_bound"] is True

    def test_context_reaches_the_evaluation(self):
        split, sources = prepared(["ngram"], order=4, cache=0)
        (near,) = compare(sources, split, context=1).rows
        split, sources = trained_already([near.run])
        (far,) = compare(sources, split).rows
        assert near.evaluation.context == 1
        assert far.evaluation.bits_per_character < near.evaluation.bits_per_character

    def test_json_has_every_figure_and_only_json(self):
        split, sources = prepared(["rnn"])
        row = compare(sources, split).rows[0].to_json()
        assert json.loads(json.dumps(row, allow_nan=False)) == row
        wanted = {"run", "architecture", "parameters", "training_seconds", "characters_per_second", "difference"}
        figures = {"bits_per_character", "bits_per_byte", "nats_per_character", "perplexity", "perplexity_per_token"}
        assert wanted | figures | {"interval", "unseen_characters", "unseen_bits", "sample", "finished"} <= set(row)
        assert row["nats_per_character"] == pytest.approx(row["bits_per_character"] * math.log(2))

    def test_an_interval_that_cannot_be_told_is_null(self, folder):
        (folder / "short.txt").write_text(TEXT[:4000])
        split, sources = prepared(["rnn"], source="short.txt")
        assert compare(sources, split).rows[0].to_json()["difference"] == {"mean": 0.0, "low": None, "high": None}

    def test_the_callers_random_numbers_are_left_alone(self):
        split, sources = prepared(["rnn"])
        before = torch.get_rng_state()
        compare(sources, split)
        assert torch.equal(before, torch.get_rng_state())


def row_of(name, bits, *, seeds=(), architecture=None, adapt="none", frozen=False, blocks=20):
    """A row of a model that pays so many bits for each character of the same text, with a little noise."""
    noise = np.random.default_rng(len(name)).normal(0, 0.01, blocks)
    evaluation = Evaluation(
        tokens=1000 * blocks, characters=1000 * blocks, bytes=1000 * blocks,
        block_bits=1000 * (bits + noise - noise.mean()), block_characters=np.full(blocks, 1000),
        unseen_characters=0, unseen_bits=0.0, seconds=1.0, text_name="text", text_sha256="0", context=None, adapt=adapt,
    )  # fmt: skip
    conditions = Conditions(None, "characters", None if architecture == "ngram" else "3s")
    return Row(
        runs=(Path(name),), architecture=architecture or name, frozen=frozen, tokenizer="characters",
        conditions=conditions, provenance=(), parameters=1, training_seconds=3.0, finished=True, evaluation=evaluation,
        difference=Difference(0.0, 0.0, 0.0), seeds=tuple(seeds) or (bits,), sample="",
    )  # fmt: skip


def comparison_of(*rows, baselines=None, budget="3s"):
    text = Text.from_string("text", "text")
    split = Split(text, text, text, text)
    return Comparison(split, tuple(rows), baselines or {}, {}, False, None, budget=budget)


NGRAM = row_of("ngram", 1.0, architecture="ngram", adapt="counts")
FROZEN_NGRAM = row_of("ngram", 1.2, architecture="ngram", frozen=True)
LSTM, GRU = row_of("lstm", 1.5), row_of("gru", 1.6)


class TestFrozen:
    def test_an_adapting_model_is_scored_again_and_not_counted_again(self, monkeypatch):
        fit, fitted = NGram.fit, []
        monkeypatch.setattr(NGram, "fit", lambda *given: fitted.append(1) or fit(*given))
        split, sources = prepared(["ngram", "rnn"], order=3)
        result = compare(sources, split)
        assert len(fitted) == 1
        rows = dict(zip(result.names, result.rows, strict=True))
        assert set(rows) == {"ngram", "ngram (frozen)", "rnn"}
        assert {name: row.evaluation.adapt for name, row in rows.items()} == {
            "ngram": "counts", "ngram (frozen)": "none", "rnn": "none",
        }  # fmt: skip
        assert rows["ngram"].runs == rows["ngram (frozen)"].runs
        _, plain = prepared(["ngram"], order=3, cache=0)
        (alone,) = compare(plain, split).rows
        assert alone.evaluation.bits == rows["ngram (frozen)"].evaluation.bits
        assert not alone.frozen

    def test_a_mixture_with_a_cache_too(self):
        split, sources = prepared(["mixture"], order=3, width=8)
        assert sorted(compare(sources, split).names) == ["mixture", "mixture (frozen)"]

    def test_words_say_which_is_which(self):
        told = " ".join(notes(comparison_of(NGRAM, FROZEN_NGRAM, LSTM, GRU)))
        assert "ngram adapts: it counts what it reads, too; ngram (frozen) is the same run without that." in told
        assert "The others do not adapt either: compare them with ngram (frozen), not with ngram." in told
        assert "adapt" not in " ".join(notes(comparison_of(FROZEN_NGRAM, LSTM)))


class TestLead:
    @pytest.mark.parametrize(
        ("rows", "xz", "words"),
        [
            (
                (NGRAM, FROZEN_NGRAM, LSTM),
                0.9,
                "No model predicts text as well as xz -9, which needs no training: 0.900",
            ),
            ((NGRAM, FROZEN_NGRAM, LSTM), 1.1, "xz -9, which needs no training, beats every model that stays as it"),
            ((NGRAM, FROZEN_NGRAM, LSTM, GRU), 1.4, "xz -9, which needs no training, beats every network: it has 1.4"),
            ((NGRAM, FROZEN_NGRAM), 1.4, "Of those that stay as they were trained, ngram (frozen) is best, at 1.200."),
            ((LSTM, GRU), 1.55, "lstm predicts text best, at 1.500 bits per character."),
            ((LSTM, GRU), 1.45, "No model predicts text as well as xz -9"),
        ],
    )
    def test_a_baseline_that_beats_models_is_named_and_no_other(self, rows, xz, words):
        told = " ".join(lead(comparison_of(*rows, baselines={"uniform": 6.0, "gzip -9": xz + 0.3, "xz -9": xz})))
        assert words in told
        assert ("xz" in told) == ("xz" in words)
        assert "gzip" not in told

    def test_without_baselines(self):
        assert lead(comparison_of(LSTM)) == ["lstm predicts text best, at 1.500 bits per character."]


class TestPairs:
    def test_every_two_models_have_an_interval(self):
        result = comparison_of(NGRAM, FROZEN_NGRAM, LSTM, GRU)
        pairs = {(pair.name, pair.against): pair.difference for pair in result.pairs()}
        assert len(pairs) == 6
        assert pairs["gru", "lstm"] == paired_difference(GRU.evaluation, LSTM.evaluation)
        assert pairs["gru", "lstm"].mean == pytest.approx(0.1)
        assert all(0 < d.low < d.mean < d.high for d in pairs.values())
        headings, lines = pairs_table(result)
        assert all(len(line.cells) == len(headings) for line in lines)
        verdicts = {(line.cells[0].text, line.cells[1].text): line.cells[-1].text for line in lines}
        assert verdicts["gru", "lstm"] == "clearly worse"
        assert verdicts["gru", "ngram"] == "clearly worse; ngram adapts"

    def test_seeds_widen_what_depends_on_them(self):
        other = row_of("gru", 1.6, seeds=(1.5, 1.6, 1.7))
        alone, several = GRU.minus(LSTM), other.minus(LSTM)
        assert several == paired_difference(other.evaluation, LSTM.evaluation, seeds=(other.seeds, LSTM.seeds))
        assert several.low < 0 < alone.low < alone.high < several.high
        assert other.interval[0] < GRU.interval[0] < GRU.interval[1] < other.interval[1]
        assert other.to_json()["interval"] == list(other.interval)

    def test_runs_with_the_same_name_elsewhere_are_told_apart(self):
        rows = [row_of(f"{folder}/run", 1.0, architecture="rnn") for folder in ("a", "b")]
        assert comparison_of(*rows).names == ["a/run", "b/run"]


def test_who_was_slowed_down_by_a_busy_machine_is_named():
    slow, quiet = (
        {"processor_use": {"own": 1.0, "others": o, "cores": 2, "share": s}} for o, s in ((1.0, 0.5), (0, 1.0))
    )
    lstm, gru = replace(LSTM, provenance=(quiet, slow)), replace(GRU, provenance=(quiet,))
    assert [name for name, _ in comparison_of(lstm, gru).disturbed()] == ["lstm"]
    (said,) = (line for line in notes(comparison_of(lstm, gru)) if "busy" in line)
    assert "lstm (50% of its usual pace)" in said
    steps = replace(lstm, conditions=replace(lstm.conditions, budget="3steps"))  # as many on any machine
    assert not comparison_of(steps, gru).disturbed()


def test_who_was_slowed_down_can_be_trained_anew(folder):
    training = replace(TRAINING, budget="0.1s")
    split, sources = prepared(["rnn", "gru"], training=training)
    first = {row.architecture: row.run for row in compare(sources, split).rows}
    for name, share in (("rnn", 0.5), ("gru", 1.0)):
        card = json.loads((first[name] / checkpoint.CARD).read_text())
        (first[name] / checkpoint.CARD).write_text(json.dumps(card | {"processor_use": {"share": share}}))
    split, sources = prepared(["rnn", "gru"], training=training, again_disturbed=True)
    then = {row.architecture: row.run for row in compare(sources, split).rows}
    assert then["gru"] == first["gru"]
    assert then["rnn"] != first["rnn"]


def test_what_was_asked_and_what_was_taken():
    """A budget is a request: counting takes its own time, a network may end early or late."""
    took = {"ngram": 9.0, "lstm": 3.1, "gru": 21.0}
    rows = [replace(row, training_seconds=took[row.architecture]) for row in (NGRAM, FROZEN_NGRAM, LSTM, GRU)]
    told = list(notes(comparison_of(*rows)))
    assert "text: 4 characters held out; 3s of training asked for each. Lower is better." in told
    assert "Counting is never cut short, whatever was asked: ngram 9 s." in told
    assert "Training did not take the time that was asked for: gru 21 s." in told
    steps = list(notes(comparison_of(*rows, budget="300steps")))
    assert "Counting is never cut short, whatever was asked: ngram 9 s." in steps
    assert not any("gru" in note for note in (*steps, *notes(comparison_of(LSTM))))


class TestRefusal:
    def test_different_held_out_texts_name_both_runs_and_what_differs(self, folder):
        (folder / "dogs.txt").write_text(TEXT.replace("cat", "dog"))
        paths = []
        for source in ("cats.txt", "dogs.txt"):
            split, sources = prepared(["rnn"], source=source)
            paths += [row.run for row in compare(sources, split).rows]
        with pytest.raises(UsageError) as refused:
            trained_already(paths)
        words = str(refused.value)
        assert words.count("\n") <= 1
        for part in ("cats-rnn", "dogs-rnn", "the end of cats", "the end of dogs", "cannot be compared"):
            assert part in words

    def test_a_run_that_does_not_say_what_it_held_out(self):
        split, sources = prepared(["rnn"])
        (row,) = compare(sources, split).rows
        card = json.loads((row.run / checkpoint.CARD).read_text())
        for corpus in (None, {}, {"characters": {"held_out": 1}, "sha256": None}):
            (row.run / checkpoint.CARD).write_text(json.dumps({**card, "corpus": corpus}))
            with pytest.raises(CheckpointError, match="cats-rnn: does not say which text it held out"):
                trained_already([row.run])


class TestStopping:
    def test_what_is_done_is_compared_and_the_rest_saved(self):
        asked = []
        at_work = []

        @contextmanager
        def training(name):
            at_work.append(name)
            yield observing(
                on_progress=lambda _: asked.append(name) if name == "gru" else None, should_stop=lambda: bool(asked)
            )

        long = TrainingConfig(budget="10000steps", batch=4, segment=16, precision="float32")
        split, sources = prepared(["rnn", "lstm"])
        _, more = prepared(["gru"], training=long)
        sources = {"rnn": sources["rnn"], **more, "lstm": sources["lstm"]}
        result = compare(
            sources, split, observer=observing(ComparisonObserver, training=training, should_stop=lambda: bool(asked))
        )
        assert at_work == ["rnn", "gru"]
        assert [row.architecture for row in result.rows] == ["rnn"]
        assert result.stopped
        assert result.baselines == {}
        assert result.interrupted == checkpoint.RUNS / "cats-gru"
        assert checkpoint.load(result.interrupted, resume=True).history.finished is False

    def test_while_evaluating(self):
        asked = []

        @contextmanager
        def evaluating(name):
            yield lambda what, done: asked.append(what) if name == "gru" else None

        split, sources = prepared(["rnn", "gru"])
        observer = observing(ComparisonObserver, evaluating=evaluating, should_stop=lambda: bool(asked))
        result = compare(sources, split, observer=observer)
        assert [row.architecture for row in result.rows] == ["rnn"]
        assert result.stopped
        assert result.interrupted is None

    def test_before_it_begins(self):
        split, sources = prepared(["rnn"])
        result = compare(sources, split, observer=observing(ComparisonObserver, should_stop=lambda: True))
        assert result.rows == ()
        assert not list(checkpoint.RUNS.glob("*"))

    def test_one_whose_numbers_go_wrong_does_not_stop_the_others(self):
        def broken(_):
            raise TrainingFault("the loss is not finite")

        split, sources = prepared(["rnn"])
        result = compare({"gru": [broken], **sources}, split)
        assert [row.architecture for row in result.rows] == ["rnn"]
        assert result.faults == {"gru": "the loss is not finite"}

    def test_a_failure_leaves_no_empty_folder(self):
        @contextmanager
        def training(name):
            raise OSError("no")
            yield

        split, sources = prepared(["rnn"])
        with pytest.raises(OSError, match="no"):
            compare(sources, split, observer=observing(ComparisonObserver, training=training))
        assert not list(checkpoint.RUNS.glob("*"))
