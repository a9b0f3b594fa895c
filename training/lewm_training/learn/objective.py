"""What training minimises: LeWorldModel's two terms, and the optional ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lewm_ros.config import TrainConfig
from lewm_ros.model import LeWorldModel, SIGReg
from lewm_ros.model.inputs import Inputs
from lewm_ros.model.policy import Policy
from lewm_training.data.windows import GOAL, IMITATED, LABEL, STEPS_LEFT
from lewm_training.learn.distributed import GlobalSIGReg, Ranks


class Readout(nn.Module):
    """How badly a linear head reads numbers from states; see `ReadoutConfig` and `WayToGraspConfig`.

    Args:
        tokens: of a state, which it reads side by side.
        width: D of a token.
        mean, std: of the numbers (n,) in the training data.
        weight: in the loss.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, tokens: Sequence[int], width: int, mean: Tensor, std: Tensor, weight: float) -> None:
        super().__init__()
        self.tokens, self.weight = list(tokens), weight
        self.head = nn.Linear(len(self.tokens) * width, len(mean))
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, states: Tensor, numbers: Tensor) -> Tensor:
        """Mean squared error, in standard deviations, of what is read from states (..., K, D) about numbers (..., n).

        Numbers that are NaN are not known, and do not count.
        """
        wanted = (numbers - self.mean) / self.std
        known, read = wanted.isfinite(), self.head(states[..., self.tokens, :].flatten(-2)).float()
        return (read - torch.where(known, wanted, read)).square().sum() / known.sum().clamp_min(1)


class Objective(nn.Module):
    """The loss of a batch that may be spread over processes.

    Every value is this process's share of the global one, so that values, and gradients too, add up over processes to
    those of one process with the global batch.
    """

    def __init__(
        self,
        model: LeWorldModel,
        config: TrainConfig,
        ranks: Ranks | None = None,
        readouts: Mapping[str, Readout] | None = None,
        policy: Policy | None = None,
        action_block: int = 1,
    ) -> None:
        super().__init__()
        self.readouts, self.policy, self.action_block = nn.ModuleDict(readouts), policy, action_block
        self.model, self.config, self.ranks = model, config, ranks or Ranks()
        self.sigreg = (GlobalSIGReg if self.ranks.world > 1 else SIGReg)(config.sigreg)

    def forward(self, inputs: Inputs, actions: Tensor, directions: Tensor) -> dict[str, Tensor]:
        """The loss and its terms, unweighted, as scalars.

        Args:
            inputs: normalised windows (B, F, 3, height, width) and (B, F, n), by name, F = `config.window_frames`.
            actions: z-scored blocks (B, F-1, A) between those frames.
            directions: of SIGReg (D, M), the same in every process.
        """
        config = self.config
        loss = self.model.loss(inputs, actions, lambda z: self._regularise(z, directions))
        windows = torch.tensor(float(len(actions)), device=actions.device)
        share = windows / self.ranks.total(windows)
        terms = {"prediction": share * loss.prediction, "sigreg": loss.sigreg / self.ranks.world}
        total = terms["prediction"] + config.sigreg.weight * terms["sigreg"]
        if config.rollout_blocks > 1:
            terms["rollout"] = share * self._rollout_error(loss.states, loss.predicted, actions)
            total = total + terms["rollout"]
        if config.straightening > 0.0:
            terms["curvature"] = share * curvature(loss.states)
            total = total + config.straightening * terms["curvature"]
        for name, readout in self.readouts.items():
            terms[f"readout/{name}"] = share * readout(loss.states, inputs[f"{LABEL}{name}"])
            total = total + readout.weight * terms[f"readout/{name}"]
        if self.policy is not None:
            terms["behaviour"] = share * self._behaviour_error(loss.states, inputs)
            total = total + config.behaviour.weight * terms["behaviour"]
        return {"loss": total, **terms}

    def _regularise(self, z: Tensor, directions: Tensor) -> Tensor:
        """SIGReg of states (T, B, D); a frozen encoder's cannot collapse, and are far too many."""
        return self.sigreg(z, directions) if self.config.model.tokens == "cls" else z.new_zeros(())

    def _behaviour_error(self, z: Tensor, inputs: Inputs) -> Tensor:
        """How badly the policy guesses, at every frame but the last, what is to be done next on the way to the goal."""
        goal_inputs = {name.removeprefix(GOAL): value for name, value in inputs.items() if name.startswith(GOAL)}
        goal = self.model.encode_goal(goal_inputs).flatten(1)  # (B, Kg * D)
        blocks = inputs[IMITATED]
        frames = blocks.shape[1]
        left = inputs[STEPS_LEFT][:, None] - self.action_block * torch.arange(frames, device=z.device)
        return self.policy.loss(z[:, :frames].flatten(2), goal[:, None].expand(-1, frames, -1), blocks, left)

    def _rollout_error(self, z: Tensor, predicted: Tensor, actions: Tensor) -> Tensor:
        """Squared error of what lies 2 to `rollout_blocks` blocks ahead, each prediction fed back.

        The prediction of one block ahead is at hand already: the rollout goes on from it.
        """
        history, blocks = self.config.model.history, self.config.rollout_blocks
        known = torch.cat([z[:, 1:history], predicted[:, -1:]], dim=1)  # (B, H, K, D)
        plan = actions[:, history : history + blocks - 1].unsqueeze(1)
        imagined = self.model.rollout(known, actions[:, 1:history], plan).squeeze(1)  # (B, blocks-1, K, D)
        return (imagined - z[:, history + 1 : history + blocks]).float().square().mean()


def curvature(z: Tensor) -> Tensor:
    """Mean of 1 - cos between successive velocities of states (B, F, ...): 0 on straight paths (arXiv 2603.12231)."""
    velocity = z.float().flatten(2).diff(dim=1)
    return 1.0 - F.cosine_similarity(velocity[:, 1:], velocity[:, :-1], dim=-1).mean()
