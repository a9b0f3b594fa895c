"""Train a world model on a dataset of episodes."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from lewm_ros.config import ConfigError, TrainConfig, to_mapping
from lewm_ros.model import LeWorldModel
from lewm_ros.model.checkpoint import Checkpoint, ErrorSpread, load_checkpoint
from lewm_ros.model.inputs import Inputs
from lewm_ros.model.policy import make_policy
from lewm_ros.model.precision import autocast, matmul_dtype
from lewm_training.data import DatasetError, EpisodeDataset
from lewm_training.data.hindsight import HindsightGoals
from lewm_training.data.locking import exclusive
from lewm_training.data.targets import WAY_TO_GRASP, targets_of
from lewm_training.data.windows import InputReader, WindowReader, WindowSampler
from lewm_training.judge.machine import describe
from lewm_training.learn.batch_norm import settle_batch_norm
from lewm_training.learn.distributed import Ranks, share_batch_norm
from lewm_training.learn.familiarity import learn_familiarity
from lewm_training.learn.finite import require_finite
from lewm_training.learn.objective import Objective, Readout
from lewm_training.learn.run_folder import RunFolder
from lewm_training.learn.statistics import LEAST_STD, action_block, action_space_of, input_spec_of
from lewm_training.learn.validation import Validation, warnings_about

SETTLING_BATCHES = 16

STATISTICS_ROWS = 20_000
"""At most about so many say how the numbers that are read out are spread."""

LOOK_STEPS = 20
"""How often the loss is looked at within an epoch: each look waits for the device."""


class Trainer:
    """Trains one model in one run folder; see `RunFolder` for what lies there at the end of every epoch.

    Args:
        config: the recipe.
        dataset: what to learn from.
        folder: the run folder; a run that stopped there goes on.
        seed: of everything random.
        device: where to compute.
        ranks: which of the processes this is, if several train one model.

    Raises:
        DatasetError: the dataset does not fit the model.
        ConfigError: the batch is too small for so many processes, or timm does not have the encoder.
        CheckpointError: the encoder cannot be taken from `config.encoder_checkpoint`.
    """

    def __init__(
        self,
        config: TrainConfig,
        dataset: EpisodeDataset,
        folder: Path,
        seed: int,
        device: str,
        ranks: Ranks | None = None,
    ) -> None:
        source = load_checkpoint(config.encoder_checkpoint) if config.encoder_checkpoint else None
        if source is not None:
            config = _with_encoder(config, source)
        if config.action_block is not None:
            numbers = config.action_block * dataset.columns["action"].shape[1]
            config = replace(config, model=replace(config.model, action_dim=numbers))
        self.config, self.dataset, self.seed = config, dataset, seed
        self.folder, self.ranks, self.device = RunFolder(folder), ranks or Ranks(), torch.device(device)
        if config.batch_size < 2 * self.ranks.world:
            raise ConfigError(f"batch_size: must be at least 2 for each of {self.ranks.world} processes")
        block = action_block(config.model, dataset)
        train_episodes, self.held_out = dataset.split(config.validation_fraction, seed)
        self.trained_on = train_episodes = dataset.some(train_episodes, config.episodes, seed)
        self.action_space = action_space_of(dataset, train_episodes, block)
        inputs = input_spec_of(config.inputs, config.model.encoder.image_size, dataset, train_episodes)
        reader = InputReader(dataset, inputs, targets_of(dataset, config))
        self.reader = WindowReader(reader, self.action_space, self.device)
        behaviour = config.behaviour
        self.goals = HindsightGoals(dataset, behaviour.final_share, behaviour.goal_within) if behaviour else None
        self.sampler = WindowSampler(dataset, train_episodes, config, (config.window_frames - 1) * block + 1)
        self.validation = Validation(config, self.reader, self.held_out, self.sampler.starts, seed)

        torch.manual_seed(seed)
        pretrained = bool(config.model.encoder.timm_name) and not RunFolder(folder).state.exists()
        self.model = LeWorldModel(config.model, inputs, pretrained).to(self.device)
        if source is not None:
            self.model.encoder.vit.load_state_dict(source.model.encoder.vit.state_dict())
        begin = load_checkpoint(config.start_checkpoint) if config.start_checkpoint else None
        if begin is not None and not self.folder.state.exists():
            _begin_with(self.model, begin)
        tune_for(self.model, config, self.device)
        if self.ranks.world > 1:
            share_batch_norm(self.model)
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(config.ema)) if config.ema else None
        readouts = _make_readouts(self.model, config, reader, dataset.window_starts(train_episodes, 1))
        self.policy = make_policy(config.behaviour.policy, self.model, self.action_space) if config.behaviour else None
        if begin and begin.policy and self.policy:
            # With another number of modes, all but the last layer fits.
            own, known = self.policy.state_dict(), begin.policy.state_dict()
            fitting = {name: known[name] for name in own if name in known and known[name].shape == own[name].shape}
            self.policy.load_state_dict(fitting, strict=False)
        objective = Objective(self.model, config, self.ranks, readouts, self.policy, block).to(self.device)
        self._heads = nn.ModuleDict({"readouts": objective.readouts} | ({"policy": self.policy} if self.policy else {}))
        if config.compile:
            objective.compile()
        self.sigreg = objective.sigreg
        shared = self.ranks.world > 1
        self.objective = DistributedDataParallel(objective) if shared else objective
        self.optimizer = make_optimizer(objective, config)
        self.schedule = make_schedule(self.optimizer, config)
        self.epoch, self.trained_s = 0, 0.0

    @property
    def evaluated(self) -> LeWorldModel:
        """The model that is validated and written: the moving average of the weights, if there is one."""
        return self.average.module if self.average else self.model

    def run(self, until: int | None = None) -> Checkpoint:
        """Train from where the folder's state stands to the last epoch, or to `until`; returns the checkpoint.

        Raises:
            ConfigError: the folder belongs to another run, or the loss is no longer finite.
            OutputError: another process writes the folder.
        """
        with contextlib.ExitStack() as stack:
            if self.ranks.is_first:
                stack.enter_context(exclusive(self.folder.path))
            self._resume()
            board = None
            while self.epoch < min(until or self.config.epochs, self.config.epochs):
                started = time.monotonic()
                figures = self._train_epoch()
                with autocast(self.config.precision, self.device):
                    settle_batch_norm(self.evaluated, self._settling_batches())
                if self.ranks.is_first:
                    figures |= self.validation.measure(self.evaluated)
                    require_finite(self._label, (figures[name] for name in figures if name.startswith("validation/")))
                self.epoch += 1
                self.trained_s += time.monotonic() - started
                if self.ranks.is_first:
                    self._save(figures)
                    board = board or stack.enter_context(self._board())
                    _write_scalars(board, figures, self.epoch)
            if self.ranks.is_first:
                self.folder.draw_curves()
            return self.checkpoint()

    def checkpoint(self) -> Checkpoint:
        """The model as it stands, with the record of how it came to be."""
        history = self.folder.history()
        return self._checkpoint(history[-1] if history else {})

    def _checkpoint(self, newest: dict[str, Any]) -> Checkpoint:
        """The model as it stands, with the figures of its newest epoch."""
        machine = describe(self.device)
        provenance = {
            "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "seed": self.seed,
            "dataset": self.dataset.provenance,
            "train": to_mapping(self.config),
            "epochs": self.epoch,
            "training_s": round(self.trained_s),
            "hardware": f"{machine['device']}, {machine['threads']} threads, {self.ranks.world} processes",
            "torch": machine["torch"],
            "metrics": newest,
        }
        names = [item.name for item in fields(ErrorSpread)]
        error = ErrorSpread(**{name: newest[f"validation/error_{name}"] for name in names}) if newest else None
        familiarity = None
        if self.policy and self.epoch >= self.config.epochs:
            familiarity = learn_familiarity(self.evaluated, self.dataset, self.trained_on, self.held_out)
        return Checkpoint(
            self.evaluated,
            self.action_space,
            policy=self.policy,
            familiarity=familiarity,
            error=error,
            name="model",
            provenance=provenance,
        )

    @property
    def _label(self) -> str:
        """The epoch under way."""
        return f"epoch {self.epoch + 1}/{self.config.epochs}"

    def _train_epoch(self) -> dict[str, Any]:
        self.model.train()
        config, steps = self.config, self.config.steps_per_epoch
        rng = np.random.default_rng([self.seed, self.epoch])
        directions = torch.Generator().manual_seed(int(rng.integers(2**31)))  # the same in every process
        torch.manual_seed(int(rng.integers(2**31)) + self.ranks.rank)
        shares = (self.ranks.share(starts) for starts in self.sampler.batches(rng, steps))
        sums: dict[str, Tensor] = {}
        started, waited_s = time.monotonic(), 0.0
        with tqdm(total=steps, desc=self._label, unit="step", leave=False, disable=not self.ranks.is_first) as bar:
            windows = self.reader.read_ahead(shares, config.window_frames, self.goals)
            for step in range(steps):
                asked = time.monotonic()
                batch = next(windows)
                waited_s += time.monotonic() - asked
                terms = self._step(*self.reader.to_device(batch), directions)
                for name, value in terms.items():
                    sums[name] = sums.get(name, 0.0) + value.detach().float()
                bar.update()
                if step % LOOK_STEPS == 0 and self.ranks.is_first:  # which speaks for all
                    seen = {name: value.item() for name, value in terms.items()}
                    require_finite(self._label, seen.values())
                    bar.set_postfix({name: f"{value:.3f}" for name, value in seen.items()})
            windows.close()
        elapsed_s = time.monotonic() - started
        means = (self.ranks.total(torch.stack(list(sums.values()))) / steps).tolist()
        require_finite(self._label, means, self.model)
        return {
            **{f"train/{name}": mean for name, mean in zip(sums, means, strict=True)},
            "train/windows_per_s": steps * config.batch_size / elapsed_s,
            "train/waiting_share": waited_s / elapsed_s,
        }

    def _step(self, inputs: Inputs, actions: Tensor, directions: torch.Generator) -> dict[str, Tensor]:
        drawn = self.sigreg.draw_directions(self.config.model.embedding_dim, directions)
        with autocast(self.config.precision, self.device):
            terms = self.objective(inputs, actions, drawn)
        self.optimizer.zero_grad(set_to_none=True)
        (self.ranks.world * terms["loss"]).backward()  # DistributedDataParallel takes the mean of gradients
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip)
        self.optimizer.step()
        self.schedule.step()
        if self.average:
            self.average.update_parameters(self.model)
        return terms

    def _settling_batches(self) -> Iterator[tuple[Inputs, Tensor]]:
        """Plain training windows, the same whenever asked; each process has its share."""
        rng = np.random.default_rng([self.seed, 2])
        starts = (rng.choice(self.sampler.starts, self.config.batch_size) for _ in range(SETTLING_BATCHES))
        for windows in self.reader.read_ahead(map(self.ranks.share, starts), self.config.model.history + 1):
            yield self.reader.to_device(windows)

    def _board(self) -> SummaryWriter:
        """TensorBoard's writer, from the present epoch on; what an unfinished one left is dropped."""
        return SummaryWriter(str(self.folder.path / "tensorboard"), purge_step=self.epoch)

    def _identity(self) -> dict[str, Any]:
        """What must not change when a run goes on."""
        return {"config": to_mapping(self.config), "seed": self.seed, "dataset": self.dataset.fingerprint}

    def _resume(self) -> None:
        state = self.ranks.read_by_first(self.folder.state, self.device)
        if state is None:
            return
        for name, value in self._identity().items():
            if state[name] != value:
                raise ConfigError(f"{self.folder.path}: was started with another {name}; choose another --out")
        self.model.load_state_dict(state["model"])
        self._heads.load_state_dict(state["heads"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.epoch, self.trained_s = state["epoch"], state["trained_s"]
        if self.ranks.is_first:
            # The checkpoint may be that of an epoch whose state was never written.
            self.folder.write_history([entry for entry in self.folder.history() if entry["epoch"] <= self.epoch])
            self.folder.write_checkpoint(self.checkpoint())

    def _save(self, figures: dict[str, Any]) -> None:
        earlier = [entry for entry in self.folder.history() if entry["epoch"] < self.epoch]
        newest = {"epoch": self.epoch, "trained_s": round(self.trained_s, 1)} | figures
        state = {
            "model": self.model.state_dict(),
            "heads": self._heads.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "epoch": self.epoch,
            "trained_s": self.trained_s,
        }
        if self.average:
            state["average"] = self.average.state_dict()
        self.folder.write_epoch([*earlier, newest], self._checkpoint(newest), state | self._identity())
        tqdm.write(_line(self.epoch, figures))
        for warning in warnings_about(figures, earlier):
            tqdm.write(f"warning: epoch {self.epoch}: {warning}")


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW without decay on biases and norms, in one kernel."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def make_schedule(optimizer: torch.optim.Optimizer, config: TrainConfig) -> LRScheduler:
    """Linear warm-up, then a cosine to zero, step by step."""
    total = config.epochs * config.steps_per_epoch
    warmup = max(1, round(config.warmup_fraction * total))
    rise = LinearLR(optimizer, 1.0 / warmup, total_iters=max(1, warmup - 1))
    fall = CosineAnnealingLR(optimizer, max(1, total - warmup))
    return SequentialLR(optimizer, [rise, fall], [warmup])


def _with_encoder(config: TrainConfig, source: Checkpoint) -> TrainConfig:
    """The recipe for a model with this checkpoint's encoder."""
    encoder = source.model.config.encoder
    model = replace(config.model, encoder=encoder)
    if model.tokens == "patches":
        model = replace(model, embedding_dim=encoder.width)
    return replace(config, model=model)


def _begin_with(model: LeWorldModel, source: Checkpoint) -> None:
    """Take over the weights of a checkpoint.

    Raises:
        ConfigError: they are of other sizes.
    """
    try:
        model.load_state_dict(source.model.state_dict())
    except RuntimeError as error:
        problem = str(error).splitlines()[1].strip()
        raise ConfigError(f"start_checkpoint: its weights do not fit this recipe: {problem}") from None


def _make_readouts(
    model: LeWorldModel, config: TrainConfig, reader: InputReader, rows: NDArray[np.int64]
) -> dict[str, Readout]:
    """The heads that read from states while training, by name, with the statistics of some of these rows.

    Raises:
        DatasetError: what is to be read is known at none of them.
    """
    seen = [token for camera in model.inputs.cameras for token in model.tokens_of[camera.name]]
    asked = {readout.name: (model.goal_tokens, readout.weight) for readout in config.readouts}
    if config.way_to_grasp is not None:
        asked[WAY_TO_GRASP] = (seen, config.way_to_grasp.weight)
    rows = rows[:: max(1, len(rows) // STATISTICS_ROWS)]
    heads = {}
    for name, (tokens, weight) in asked.items():
        values = reader.targets[name][rows].astype(np.float64)
        known = values[np.isfinite(values).all(1)]
        if not len(known):
            raise DatasetError(f"{reader.dataset.path}: '{name}' is known in no frame: the gripper never closes")
        mean, std = (torch.tensor(v, dtype=torch.float32) for v in (known.mean(0), known.std(0) + LEAST_STD))
        heads[name] = Readout(tokens, model.config.embedding_dim, mean, std, weight)
    return heads


def tune_for(model: LeWorldModel, config: TrainConfig, device: torch.device) -> None:
    """Spell the encoder's attention out as two matmuls: on CPUs, bf16's fused one is many times slower backwards."""
    if device.type == "cpu" and matmul_dtype(config.precision, device) == torch.bfloat16:
        for block in model.encoder.vit.blocks:
            block.attn.fused_attn = False


def _line(epoch: int, figures: dict[str, Any]) -> str:
    """An epoch's figures in one line."""
    parts = [
        f"epoch {epoch:3d}  prediction {figures['validation/prediction']:.4f} "
        f"(nothing changes {figures['validation/nothing_changes']:.4f})",
        f"sigreg {figures['validation/sigreg']:.2f}",
        f"rank {figures['validation/effective_rank']:.1f}",
    ]
    for name in (name for name in figures if name.startswith("probe/") and name.endswith("_r2")):
        label = name.removeprefix("probe/").removesuffix("_r2")
        parts.append(f"{label} R2 " + " ".join(f"{value:.2f}" for value in figures[name]))
    if "probe/position_error_mm" in figures:
        parts.append(f"position {figures['probe/position_error_mm']:.0f} mm")
    return "  ".join([*parts, f"{figures['train/windows_per_s']:.0f} windows/s"])


def _write_scalars(board: SummaryWriter, figures: dict[str, Any], epoch: int) -> None:
    for name, value in figures.items():
        if isinstance(value, list):
            _write_scalars(board, {f"{name}/{i}": item for i, item in enumerate(value, start=1)}, epoch)
        else:
            board.add_scalar(name, value, epoch)
