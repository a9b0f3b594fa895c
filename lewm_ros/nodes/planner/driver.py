"""What drives the arm: closes the loop when it may be closed, opens it when anything is wrong."""

from __future__ import annotations

import time

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode

from lewm_ros.nodes.planner.control_loop import ControlLoop
from lewm_ros.nodes.planner.latency import LatencyTrace
from lewm_ros.nodes.planner.motion import Motion
from lewm_ros.nodes.planner.planner_inputs import Embedding, PlannerInputs
from lewm_ros.nodes.planner.planning_thread import EncodedObservation, PlanningThread
from lewm_ros.nodes.planner.watchdogs import ClockWatch
from lewm_ros.observation.stamps import NS_PER_S

MIN_TIMER_NS = 1_000_000


class Driver:
    """Drives the arm while enabled and while every input is sound and fresh.

    The loop closes at the first frame taken after `enable`. If anything fails, it opens: the arm brakes smoothly to a
    standstill, then nothing more is sent; it closes again, from the measured positions, as soon as all is well. After
    an e-stop, a surprise that stops, or a failed inference it waits to be enabled.

    Args:
        node: has the clock and the timers.
        control_hz: commands per second.
        inputs, motion, planning, trace: what it works with.
    """

    def __init__(
        self,
        node: LifecycleNode,
        control_hz: float,
        inputs: PlannerInputs,
        motion: Motion,
        planning: PlanningThread,
        trace: LatencyTrace,
    ) -> None:
        self._node, self._period_s = node, 1.0 / control_hz
        self._inputs, self._motion, self._planning, self._trace = inputs, motion, planning, trace
        self.enabled, self.stopped = False, ""
        self._enabled_ns = 0
        self._estop = False
        self._clock_watch, self._clock_problem = ClockWatch(), ""
        # Commands follow the clock of the stamps; what watches over them must not, since that clock may stand still.
        self._step_timer = node.create_timer(self._period_s, self._step, autostart=False)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._watch_timer = node.create_timer(self._period_s, self._watch, clock=steady, autostart=False)

    @property
    def state(self) -> str:
        """running, stopping, waiting (enabled, but something is missing) or idle."""
        if self._motion.loop is not None:
            return "running"
        return "stopping" if self._motion.braking else "waiting" if self.enabled else "idle"

    def start(self) -> None:
        """Begin to watch."""
        self._clock_watch = ClockWatch()
        self._watch_timer.reset()

    def halt(self) -> None:
        """Stop the arm, and return when it has been told to stand still."""
        self.disable("")
        while self._motion.braking:
            time.sleep(self._period_s)
            self._motion.brake(self._inputs.joints.value)
        self._watch_timer.cancel()

    def problem(self) -> str:
        """All that keeps the arm from moving now; empty if nothing does."""
        problems = (
            "e-stop" if self._estop else "",
            self._clock_problem,
            self._inputs.problem(self._now_ns()),
            self._planning.problem(),
        )
        return "; ".join(filter(None, problems))

    def enable(self) -> None:
        """Close the loop at the next frame at which all is well."""
        self._planning.clear_failure()
        self.enabled, self.stopped, self._enabled_ns = True, "", self._now_ns()

    def disable(self, reason: str) -> None:
        """Stop, and wait to be enabled; `reason` is kept for the status unless it is empty."""
        self.enabled, self.stopped = False, reason
        self._open(reason or "stopped")

    def restart(self) -> None:
        """Stop, and close the loop anew at the next frame if enabled."""
        self._open("reset")
        self._enabled_ns = self._now_ns()

    def emergency_stop(self, pressed: bool) -> None:
        """Stop and stay so while it is pressed; afterwards wait to be enabled."""
        if pressed and not self._estop:
            self.disable("e-stop")
        elif self._estop and not pressed:
            self.stopped = "the e-stop was released; enable again"
        self._estop = pressed

    def on_embedding(self, stamp_ns: int, embedding: Embedding | None) -> None:
        """Close the loop at a new frame, if it may be closed, and plan from the frame, if a block begins there."""
        if self.enabled and self._motion.loop is None and not self._motion.braking:
            self._close(stamp_ns)
        loop, goal, joints = self._motion.loop, self._inputs.goal.value, self._inputs.joints.value
        if loop is None or embedding is None or goal is None or joints is None:
            return
        block = loop.observed_boundary(stamp_ns)
        if block is not None:
            seen = EncodedObservation(loop, stamp_ns, embedding, goal, joints, judged=self._motion.scale == 1.0)
            self._planning.observe(block, seen)

    def _close(self, t0_ns: int) -> None:
        """Close the loop at a frame, if the frame and the joint states are newer than the request and all is sound."""
        if self.problem() or min(t0_ns, self._inputs.joints.stamp_ns) < self._enabled_ns:
            return
        now_ns = self._now_ns()
        loop = ControlLoop(self._planning.make_planner(), t0_ns, now_ns)
        self._motion.begin(loop, self._inputs.joints.value)
        self._planning.begin(loop)
        self._arm_timer(loop, now_ns)

    def _open(self, reason: str) -> None:
        """End the motion, if there is any, and say why."""
        if self._motion.loop is None:
            return
        self._step_timer.cancel()
        self._planning.end()
        self._motion.end()
        self._motion.brake(self._inputs.joints.value)
        self._node.get_logger().info(f"stopping: {reason}")

    def _step(self) -> None:
        """Send the commands that are due."""
        loop, now_ns = self._motion.loop, self._now_ns()
        if loop is None:
            return  # The timer was ready when it was cancelled.
        if problem := self.problem():
            self._open(problem)
            return
        if self._motion.step(now_ns, self._inputs.joints.value):
            self._trace.commanded(loop.block_at(now_ns), time.time_ns())
        self._arm_timer(loop, self._now_ns())

    def _arm_timer(self, loop: ControlLoop, now_ns: int) -> None:
        """Wake at the start of the next control step, so that commands keep the phase of the frames."""
        self._step_timer.timer_period_ns = max(loop.next_step_ns() - now_ns, MIN_TIMER_NS)
        self._step_timer.reset()

    def _watch(self) -> None:
        """Look for what no message reports, and go on with a stop."""
        self._clock_problem = self._clock_watch.check(self._now_ns() / NS_PER_S, time.monotonic())
        if self._clock_problem:
            self._enabled_ns = self._now_ns()  # Times from before the jump say nothing about times after it.
        if self._motion.braking:
            self._motion.brake(self._inputs.joints.value)
        elif reason := self._planning.reason_to_stop():
            if self.enabled:
                self.disable(reason)
        elif problem := self.problem():
            self._open(problem)

    def _now_ns(self) -> int:
        return self._node.get_clock().now().nanoseconds
