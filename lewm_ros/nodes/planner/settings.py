"""The parameters of planner_node."""

from __future__ import annotations

from math import inf

from lewm_ros.config import SOLVERS, PlannerConfig
from lewm_ros.nodes.inference import declare_device
from lewm_ros.nodes.parameters import Field, Parameters
from lewm_ros.nodes.planner.commands import ACTION_SPACES_OF

FROM_DESCRIPTION = "robot_description"

WEIGHT = (0.0, 1e6)

SEARCH = {
    "solver": Field(f"of the search: {', '.join(SOLVERS)}"),
    "horizon": Field("planned beyond the block under way", "blocks", 1, 100),
    "samples": Field("candidates in each iteration", "plans", 1, 100_000),
    "iterations": Field("of the solver", "", 1, 1_000),
    "elites": Field("best candidates, which the next iteration is drawn from", "plans", 1, 100_000),
    "initial_std": Field("of the first candidates", "z-scored actions", 0.001, 100.0),
    "minimum_std": Field("of the later candidates", "z-scored actions", 0.0, 100.0),
    "knots_per_block": Field("free actions in a block, each held for its share of it", "actions", 1, 1_000),
    "precision": Field("of the rollouts: bf16 or fp32"),
    "latent_weight": Field("of the latent distance to the goal", "", *WEIGHT),
    "running_weight": Field("of the mean over all steps, beside the last step", "", *WEIGHT),
    "map_weight": Field("of the distance to the goal in the proposal's map", "", *WEIGHT),
    "gap_weight": Field("of the learned number of blocks to the goal", "", *WEIGHT),
    "smoothness_weight": Field("of the squared change between successive actions", "", *WEIGHT),
    "limit_weight": Field("of coming near the edge of the joint positions known from training", "", *WEIGHT),
    "limit_margin_rad": Field("what is near that edge", "rad", 0.001, 3.0),
    "agreement_std": Field("of the elites, below which the search ends; 0: never", "z-scored actions", 0.0, 100.0),
    "deadline_ms": Field("after which the search ends with the best plan so far", "ms", 1.0, 600_000.0),
    "icem_noise_exponent": Field("colour of icem's noise; 0: white", "", 0.0, 10.0),
    "icem_kept_fraction": Field("of icem's elites that the next iteration keeps", "", 0.0, 1.0),
    "icem_population_decay": Field("factor by which icem's candidates get fewer per iteration", "", 1.0, 100.0),
    "icem_momentum": Field("of icem's mean and std", "", 0.0, 1.0),
    "mppi_temperature": Field("of mppi's weights, in standard deviations of the cost", "", 1e-6, 1e6),
    "gradient_step": Field("of the gradient solver's Adam", "z-scored actions", 1e-6, 1e6),
}
"""The search's parameters, the fields of `PlannerConfig`."""


class PlannerSettings:
    """Every attribute gives the present value of a parameter when called."""

    def __init__(self, parameters: Parameters) -> None:
        declare = parameters.declare
        self.checkpoint = declare("checkpoint", "default", "'default' or the path of a checkpoint's NAME.json")
        self.device = declare_device(parameters)
        self.seed = declare("seed", 0, "of the search", low=0, high=2**31 - 1)
        self.search = parameters.declare_config("planner", PlannerConfig, SEARCH)

        self.command_interface = declare(
            "command_interface", "joint_trajectory", "how the arm is commanded", choices=tuple(ACTION_SPACES_OF)
        )
        self.dry_run = declare("dry_run", False, "publish plans, but no commands")
        self.enable_on_activate = declare("enable_on_activate", False, "move without waiting for ~/enable")
        self.lookahead_steps = declare(
            "lookahead_steps", 5, "scheduled control steps sent beyond the next one", unit="steps", low=0, high=100
        )
        self.ramp_s = declare(
            "ramp_s",
            1.0,
            "time in which the speed goes from 0 to full after the loop has closed",
            unit="s",
            low=0.0,
            high=60.0,
            live=True,
        )

        self.joint_names = declare(
            "joint_names", [""], "what the arm calls its joints, in the checkpoint's order; empty: as the checkpoint"
        )
        self.limits = declare(
            "limits",
            "panda",
            f"of the joints: panda, fr3, a YAML file, or {FROM_DESCRIPTION}: from the topic of that name",
        )
        self.limit_margin_rad = declare(
            "limit_margin_rad", 0.02, "distance kept from position limits", unit="rad", low=0.0, high=1.0
        )
        self.workspace_low_m = declare(
            "workspace_low_m",
            [-inf] * 3,
            "x, y, z that the end effector stays above; -.inf: no bound",
            unit="m",
            size=3,
            may_be_infinite=True,
        )
        self.workspace_high_m = declare(
            "workspace_high_m",
            [inf] * 3,
            "x, y, z that the end effector stays below; .inf: no bound",
            unit="m",
            size=3,
            may_be_infinite=True,
        )
        self.tip_link = declare(
            "tip_link", "panda_hand_tcp", f"the end effector, if the limits come from {FROM_DESCRIPTION}"
        )
        self.base_frame = declare(
            "base_frame", "panda_link0", "the arm's base in TF; ~/paths and twists are given in it"
        )
        self.show_paths = declare(
            "show_paths",
            0,
            "planned end-effector paths to show on ~/paths, the best one first; 0: none",
            unit="paths",
            low=0,
            high=1_000,
            live=True,
        )
        self.max_lead_rad = declare(
            "max_lead_rad",
            0.3,
            "largest distance of a joint's target from its measured position",
            unit="rad",
            low=0.01,
            high=3.0,
        )

        self.max_input_age_s = declare(
            "max_input_age_s",
            0.4,
            "oldest usable input, by its stamp and since its arrival",
            unit="s",
            low=0.01,
            high=60.0,
            live=True,
        )
        self.max_plan_age_s = declare(
            "max_plan_age_s",
            2.0,
            "longest time without a new plan, and for making one",
            unit="s",
            low=0.05,
            high=600.0,
            live=True,
        )
        self.frozen_frames = declare(
            "frozen_frames",
            6,
            "so many equal frames in a row while the arm moves are a frozen camera; 0: never",
            unit="frames",
            low=0,
            high=10_000,
        )

        self.on_surprise = declare(
            "on_surprise",
            "warn",
            "what to do when the world is not as predicted",
            choices=("warn", "stop", "ignore"),
            live=True,
        )
        self.surprise_threshold = declare(
            "surprise_threshold",
            5.0,
            "surprising prediction error, above what validation data let expect",
            unit="standard deviations",
            low=0.0,
            high=1e6,
        )
        self.surprise_steps = declare(
            "surprise_steps", 1, "so many surprises in a row count", unit="model steps", low=1, high=1_000
        )
        self.trace_file = declare("trace_file", "", "JSON file for the latencies of every plan; empty: none")
