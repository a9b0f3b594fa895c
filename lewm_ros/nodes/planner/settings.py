"""The parameters of planner_node."""

from __future__ import annotations

from math import inf

from lewm_ros.nodes.inference import declare_device
from lewm_ros.nodes.parameters import Parameters
from lewm_ros.nodes.planner.command_output import OUTPUTS
from lewm_ros.planning import PlannerConfig

FROM_DESCRIPTION = "robot_description"


class PlannerSettings:
    """Every attribute gives the present value of a parameter when called."""

    def __init__(self, parameters: Parameters) -> None:
        declare = parameters.declare
        self.checkpoint = declare("checkpoint", "default", "default, pick_place, push, or the path of a NAME.json")
        self.device = declare_device(parameters)
        self.seed = declare("seed", 0, "of the search", low=0, high=2**31 - 1)
        self.search = parameters.declare_config("planner", PlannerConfig)

        self.command_interface = declare(
            "command_interface", "joint_trajectory", "how the arm is commanded", choices=tuple(OUTPUTS)
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

        self.max_goal_strangeness = declare(
            "max_goal_strangeness",
            1.2,
            "a goal so many times as far from the demonstrations' as these from one another is refused; 0: never",
            low=0.0,
            high=1e6,
            live=True,
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
