"""The training, in one visible loop."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

import workbench
from workbench.data.exams import ExamBatch
from workbench.models.checkpoint import CHECKPOINTS, model_hash, read_card, save_model
from workbench.models.paired import PairedEyeNet
from workbench.models.precision import autocast, resolve_precision
from workbench.schema.errors import WorkbenchError
from workbench.schema.model_card import ModelCard, Provenance
from workbench.schema.progress import console
from workbench.schema.seeds import seed_for
from workbench.training.adversarial import Adversary, Task
from workbench.training.augment import augment, drop_eyes
from workbench.training.cohort import Cohort, eye_grades, open_cohort
from workbench.training.config import TrainConfig
from workbench.training.defence import UNDEFENDED, Defence, Spoil, defence_words, refuse_lacking
from workbench.training.fine_tuning import start_from
from workbench.training.history import write_history, write_learning_curve
from workbench.training.losses import class_weights, grading_loss
from workbench.training.reporting import Reporter, open_reporter, spoken
from workbench.training.sampler import batches, epoch_order
from workbench.training.state import (
    TrainingState,
    is_finished,
    only_one,
    resume_state,
    save_finished,
    save_state,
)
from workbench.training.validation import Answers, answer, measure, score_of, youden_threshold


@dataclass(frozen=True)
class Job:
    """What stays the same from the first step to the last."""

    config: TrainConfig
    folder: Path
    cohort: Cohort
    device: torch.device
    precision: Literal["fp32", "bf16"]
    weights: Float[Tensor, " grade"]
    steps: int
    spoil: Spoil | None
    adversary: Adversary | None

    @property
    def total_steps(self) -> int:
        """Return the number of steps of all epochs."""
        return self.steps * self.config.train.epochs


def train(config: TrainConfig, out: Path | None = None, defence: Defence = UNDEFENDED) -> ModelCard:
    """Train the model of ``config`` into the folder ``out`` (None: ``config.out``) and return its card.

    A second call with the same configuration continues where the first one was stopped or killed, and ends with the
    same weights as if it never had been. The weights kept are those of the best epoch (`validation.score_of`); with
    adversarial training, of the best under the same attack (Rice et al. 2020), or they would be the least defended.
    ``defence`` holds what the configuration asks for of the room of the stresses (`workbench.cli.defence`).

    Raises:
        WorkbenchError: a mistake in the data or the configuration, a loss that is no number, a full disk, or a folder
            that holds another training.
    """
    folder = out or config.out
    refuse_lacking(config, defence)
    with only_one(folder), _threads(config.train.threads), torch.random.fork_rng():
        job = _prepare(config, folder, defence)
        signature = signature_of(job)
        if is_finished(signature, folder):
            console.print(f"{folder} is trained already; nothing to do", highlight=False)
            return read_card(folder)
        state = _begin(job)
        progress = state.progress
        if resume_state(state, folder):
            progress = state.progress
            console.print(f"continues at epoch {progress.epoch + 1}, step {progress.step + 1}", highlight=False)
        done = progress.epoch * job.steps + progress.step
        with open_reporter(folder, epochs=config.train.epochs, total_steps=job.total_steps, done=done) as reporter:
            while not progress.stopped:
                _learn(job, state, signature, reporter)
                _judge(job, state, reporter)
                save_state(state, signature, folder)
        card = _finish(job, state)
        save_finished(progress, signature, folder)
        return card


def _learn(job: Job, state: TrainingState, signature: dict[str, Any], reporter: Reporter) -> None:
    """Take the steps of one epoch that are still to be taken."""
    settings, progress = job.config.train, state.progress
    order = epoch_order(
        eye_grades(job.cohort.train).max(axis=1),
        balance=settings.class_balance,
        seed=settings.seed,
        epoch=progress.epoch,
    )
    state.model.train()
    clock = saved = time.monotonic()
    for indices in batches(order, settings.batch_size)[progress.step :]:
        done = progress.epoch * job.steps + progress.step
        seed = seed_for(settings.seed, progress.epoch, progress.step)
        batch = _view(job, job.cohort.train.batch(indices.tolist()), seed)
        rate = learning_rate(done, job.total_steps, settings.warmup, settings.learning_rate)
        for group in state.optimiser.param_groups:
            group["lr"] = rate
        loss = _loss(job, state.model, batch, seed, done / job.steps)
        state.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if settings.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(state.model.parameters(), settings.gradient_clip)
        state.optimiser.step()
        state.follow(settings.ema_decay, done)
        progress.step += 1
        progress.loss_sum += _finite(loss.item(), progress.epoch, progress.step)
        now = time.monotonic()
        progress.epoch_seconds, clock = progress.epoch_seconds + now - clock, now
        speed = progress.step * len(indices) / progress.epoch_seconds
        reporter.step(done + 1, progress.epoch, loss.item(), rate, speed)
        if now - saved >= 60 * settings.checkpoint_minutes and progress.step < job.steps:
            save_state(state, signature, job.folder)
            saved = time.monotonic()


def _loss(job: Job, model: PairedEyeNet, batch: ExamBatch, seed: int, epochs_done: float) -> Float[Tensor, ""]:
    """Return what the step minimises; ``seed`` is for the dropouts, all else has a generator of its own."""
    task = _task(job, model, batch.x, batch.present, batch.grade.masked_fill(~batch.present, -1))
    if job.adversary is not None:
        return job.adversary.loss(model, task, seed, epochs_done)
    torch.manual_seed(seed)
    return task.loss(task.answer(task.x))


def _task(job: Job, model: PairedEyeNet, x: Tensor, present: Tensor, grade: Tensor) -> Task:
    def answer(x: Tensor) -> Tensor:
        with autocast(job.precision, job.device):
            return model(x, present)

    def loss(logits: Tensor) -> Tensor:
        return grading_loss(logits, grade, job.weights, job.config.loss)

    return Task(x, present, grade >= 0, answer, loss)


def _judge(job: Job, state: TrainingState, reporter: Reporter) -> None:
    """Measure the average's answers on the validation split, keep it if it is the best, decide whether to go on."""
    progress, settings = state.progress, job.config.train
    start = time.monotonic()
    answers = _answer(job, state.average)
    figures = measure(answers)
    score = score_of(figures)
    if job.adversary is not None:
        attacked = measure(_answer(job, state.average, job.adversary))
        score = score_of(attacked)
        figures |= {f"{name}_attacked": value for name, value in attacked.items()}
    # NaN never ranks: where nothing can be assessed, the last epoch stands.
    best = score > progress.best_score or math.isnan(score)
    speed = job.steps * min(settings.batch_size, len(job.cohort.train)) / progress.epoch_seconds
    progress.seconds += progress.epoch_seconds + time.monotonic() - start
    if best:
        progress.best_score = score if math.isfinite(score) else progress.best_score
        progress.best_epoch = progress.epoch
        state.keep_as_best()
    rate = learning_rate((progress.epoch + 1) * job.steps - 1, job.total_steps, settings.warmup, settings.learning_rate)
    row = {"epoch": float(progress.epoch + 1), "step": float((progress.epoch + 1) * job.steps), "learning_rate": rate}
    row |= {"train_loss": progress.loss_sum / job.steps, **figures}
    row |= {"exams_per_second": speed, "minutes": progress.seconds / 60}
    progress.history.append(row)
    progress.epoch, progress.step, progress.loss_sum, progress.epoch_seconds = progress.epoch + 1, 0, 0.0, 0.0
    per_epoch = progress.seconds / progress.epoch
    progress.stopped = _why_stop(state, job, per_epoch)
    reporter.epoch(row, best, per_epoch * (settings.epochs - progress.epoch))
    write_history(progress.history, job.folder)
    if settings.keep_checkpoints:
        _keep_checkpoint(job, state, answers)


def _keep_checkpoint(job: Job, state: TrainingState, answers: Answers) -> None:
    """Write the average of this epoch as a model of its own, and remove those of older epochs."""
    folder = job.folder / CHECKPOINTS
    save_model(state.average, _card(job, state, answers), folder / f"epoch_{state.progress.epoch:04d}")
    for old in sorted(folder.glob("epoch_*"))[: -job.config.train.keep_checkpoints]:
        shutil.rmtree(old)


def _why_stop(state: TrainingState, job: Job, seconds_per_epoch: float) -> str:
    settings, progress = job.config.train, state.progress
    if progress.epoch >= settings.epochs:
        return "every epoch done"
    if settings.patience is not None and progress.epoch - 1 - progress.best_epoch >= settings.patience:
        return f"no better validation for {settings.patience} epochs"
    if settings.max_minutes is not None and progress.seconds + seconds_per_epoch > 60 * settings.max_minutes:
        return f"the next epoch would exceed {settings.max_minutes:g} minutes"
    return ""


def _finish(job: Job, state: TrainingState) -> ModelCard:
    """Write the best weights with their threshold and provenance, the history and its picture."""
    progress = state.progress
    state.average.load_state_dict(state.best)
    answers = _answer(job, state.average)
    card = save_model(state.average, _card(job, state, answers), job.folder)
    write_history(progress.history, job.folder)
    write_learning_curve(progress.history, progress.best_epoch + 1, job.folder)
    figures = card.provenance.validation
    told = ", ".join(f"{name} {spoken(figures[name])}" for name in ("auc_referable", "qwk") if name in figures)
    console.print(
        f"trained: {progress.stopped}; epoch {progress.best_epoch + 1} is kept ({told or 'nothing could be assessed'})",
        highlight=False,
    )
    for name, why in card.provenance.not_assessed.items():
        console.print(f"[yellow]{name} not assessed[/] {why}", highlight=False)
    return card


def _card(job: Job, state: TrainingState, answers: Answers) -> ModelCard:
    config, figures = job.config, measure(answers)
    truth, known = answers.referable()
    threshold = youden_threshold(truth[known], answers.p_referable()[known])
    not_assessed = {
        name: f"the {len(answers.p)} validation exams do not hold both classes"
        for name, value in {**figures, "referable_threshold": threshold}.items()
        if not math.isfinite(value)
    }
    provenance = Provenance(
        manifest_hash=job.cohort.manifest_hash,
        dataset=job.cohort.dataset,
        train_patients=job.cohort.train_patients,
        config=config.model_dump(mode="json"),
        epochs=state.progress.epoch,
        seed=config.train.seed,
        workbench_version=workbench.__version__,
        torch_version=torch.__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        validation={name: value for name, value in figures.items() if math.isfinite(value)},
        not_assessed=not_assessed,
        stopped=state.progress.stopped,
        conflicts_allowed=job.cohort.conflicts_allowed,
        defence=defence_words(config),
    )
    return ModelCard(
        name=config.name,
        architecture=config.model,
        preprocess=config.preprocess,
        referable_threshold=threshold if math.isfinite(threshold) else 0.5,
        licence=config.licence,
        provenance=provenance,
    )


def _prepare(config: TrainConfig, folder: Path, defence: Defence) -> Job:
    cuda = config.train.device == "cuda" or (config.train.device == "auto" and torch.cuda.is_available())
    if cuda and not torch.cuda.is_available():
        raise WorkbenchError("train.device is cuda, but torch sees no such device", "use train.device=auto or cpu")
    device = torch.device("cuda" if cuda else "cpu")
    cohort = open_cohort(config)
    grades = torch.from_numpy(eye_grades(cohort.train))
    _refuse_grades(int(grades.max()), config)
    adversarial, ascend = config.train.adversarial, defence.ascend
    return Job(
        config=config,
        folder=folder,
        cohort=cohort,
        device=device,
        precision=resolve_precision(config.train.precision, device),
        weights=class_weights(grades, config.model.grades, config.loss.class_weight_power).to(device),
        steps=len(batches(np.arange(len(cohort.train)), config.train.batch_size)),
        spoil=defence.spoil,
        adversary=None if ascend is None else Adversary(adversarial, ascend),
    )


def _refuse_grades(highest: int, config: TrainConfig) -> None:
    if highest >= config.model.grades:
        raise WorkbenchError(
            f"the manifest holds grade {highest}, the model answers grades 0 to {config.model.grades - 1}",
            f"set model.grades={highest + 1}",
        )


def _begin(job: Job) -> TrainingState:
    """Return the state before the first step: seeded weights, or those of ``init_from`` where they fit."""
    settings = job.config.train
    torch.manual_seed(seed_for(settings.seed, "weights"))
    model = PairedEyeNet(job.config.model)
    if settings.init_from is not None:
        start_from(model, settings.init_from)
    model = model.to(job.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return TrainingState.start(model, make_optimiser(model, job.config))


def make_optimiser(model: torch.nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return the optimiser; biases, normalisations and other vectors do not decay (Goyal et al. 2017)."""
    settings = config.train
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if settings.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


def learning_rate(step: int, total: int, warmup: float, peak: float) -> float:
    """Return the rate of ``step`` (from 0): linear up to ``peak`` over the warm-up's share, then a half cosine to zero.

    Loshchilov and Hutter 2017 (SGDR), without restarts; it is a function of the step, so there is no state to keep.
    """
    rising = warmup * total
    if step < rising:
        return peak * (step + 1) / (math.floor(rising) + 1)
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(total - rising, 1)))


def signature_of(job: Job) -> dict[str, Any]:
    """Return, flat, everything that decides the weights; a training continues only where all of it is the same."""
    told = job.config.model_dump(mode="json", exclude={"name", "out", "licence"})
    told["data"] = {"limit": told["data"]["limit"], "manifest_sha256": job.cohort.manifest_hash}
    if job.config.data.permute_labels:  # came later: a training begun before goes on
        told["data"]["permute_labels"] = True
    for name in ("checkpoint_minutes", "max_minutes", "keep_checkpoints"):
        del told["train"][name]
    start = job.config.train.init_from
    told["train"] |= {
        "precision": job.precision,
        "device": job.device.type,
        "threads": torch.get_num_threads(),
        "init_from": model_hash(start) if start is not None else None,
    }
    if not job.config.augment.corruptions.names:  # came later too
        del told["augment"]["corruptions"]
    if job.config.train.adversarial.method == "none":
        del told["train"]["adversarial"]
    return {**_flat(told), "workbench": workbench.__version__, "torch": torch.__version__}


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values under dotted names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _view(job: Job, batch: ExamBatch, seed: int) -> ExamBatch:
    """Return the batch on the device, augmented; its random numbers depend on the step alone."""
    generator = torch.Generator().manual_seed(seed)
    if job.spoil is not None:  # by random numbers of its own, so that all else stays as without it
        chance = torch.Generator().manual_seed(seed_for(seed, "corruptions"))
        batch = replace(batch, x=job.spoil(batch.x, chance))
    x, present, grade = (tensor.to(job.device) for tensor in (batch.x, batch.present, batch.grade))
    moved = replace(batch, x=x, present=present, grade=grade)
    seen = drop_eyes(augment(moved, job.config.augment, generator), job.config.train.eye_dropout, generator)
    return replace(seen, x=seen.x.contiguous(memory_format=torch.channels_last))


def _answer(job: Job, model: PairedEyeNet, adversary: Adversary | None = None) -> Answers:
    """Return the model's answers on the validation split, under the whole epsilon of an adversary if one is given."""

    def loss(logits: Tensor, grade: Tensor) -> Tensor:
        return grading_loss(logits, grade, job.weights, job.config.loss)

    def view(x: Tensor, present: Tensor, grade: Tensor, start: int) -> Tensor:
        if adversary is None:
            return x
        seed = seed_for(job.config.train.seed, "validation", start)
        return adversary.attack(model, _task(job, model, x, present, grade), seed, adversary.settings.epsilon)

    return answer(
        model,
        job.cohort.validation,
        loss,
        view,
        batch_size=job.config.train.batch_size,
        device=job.device,
        precision=job.precision,
    )


def _finite(loss: float, epoch: int, step: int) -> float:
    if not math.isfinite(loss):
        raise WorkbenchError(
            f"the loss is {loss} at epoch {epoch + 1}, step {step}", "lower train.learning_rate or use precision=fp32"
        )
    return loss


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(count or before)
        yield
    finally:
        torch.set_num_threads(before)
