"""What drives the arm: closes the loop when it may be closed, opens it when anything is wrong."""

from __future__ import annotations

import time

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode

from lewm_ros.nodes.planner.command_output import CommandOutput
from lewm_ros.nodes.planner.control_loop import ControlLoop
from lewm_ros.nodes.planner.latency import LatencyTrace
from lewm_ros.nodes.planner.loop_state import LoopEvent, LoopState, next_state
from lewm_ros.nodes.planner.motion import Motion
from lewm_ros.nodes.planner.planner_inputs import Embedding, PlannerInputs
from lewm_ros.nodes.planner.planning_thread import EXPECTED_PERCENT, EncodedObservation, PlanningThread
from lewm_ros.nodes.planner.watchdogs import ClockWatch, FollowWatch, GripperWatch
from lewm_ros.observation.stamps import NS_PER_S

MIN_TIMER_NS = 1_000_000
EARLY_NS = 20_000_000
"""A command goes out so long before it must, or half a control step, since timers and transport are late at times."""
MARGIN_NS = 3_000_000
"""Between the time at which a plan is usually there and the next command."""
SIMULATED_TICKS = 2
"""Simulated time has at least so many ticks per control step."""
CLOCK_STANDS_S = 0.3
"""A clock that has not moved for so long stands still: a stop under way goes on at the pace of the watch."""
MAX_BRAKING_S = 3.0


class Driver:
    """Drives the arm while enabled and while every input is sound and fresh; see `LoopState` for what it does when.

    The loop closes at the first frame taken after `enable`. If anything fails, it opens: the arm brakes smoothly to a
    standstill, then nothing more is sent; it closes again, from the measured positions, as soon as all is well. After
    an e-stop, a surprise that stops, a failed inference, or if arm or gripper do not follow, it waits to be enabled.

    Args:
        node: has the clock and the timers.
        control_hz: commands per second.
        inputs, motion, output, planning, follow_watch, gripper_watch, trace: what it works with.
    """

    def __init__(
        self,
        node: LifecycleNode,
        control_hz: float,
        inputs: PlannerInputs,
        motion: Motion,
        output: CommandOutput,
        planning: PlanningThread,
        follow_watch: FollowWatch,
        gripper_watch: GripperWatch,
        trace: LatencyTrace,
    ) -> None:
        self._node, self._control_ns = node, round(NS_PER_S / control_hz)
        self._inputs, self._motion, self._output, self._planning = inputs, motion, output, planning
        self._follow_watch, self._gripper_watch, self._trace = follow_watch, gripper_watch, trace
        self.state, self.stopped = LoopState.SILENT, ""
        self._loop: ControlLoop | None = None
        self._enabled_ns, self._braking_since_s = 0, 0.0
        self._estop = False
        self._clock_watch, self._clock_problem = ClockWatch(), ""
        self._clock_ns, self._clock_moved_s = 0, 0.0
        # Commands follow the clock of the stamps; what watches over them must not, since that clock may stand still.
        self._send_timer = node.create_timer(1.0 / control_hz, self._send, autostart=False)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._watch_timer = node.create_timer(1.0 / control_hz, self._watch, clock=steady, autostart=False)

    def start(self) -> None:
        """Begin to watch."""
        self._clock_watch = ClockWatch()
        self._watch_timer.reset()
        self._handle(LoopEvent.START)

    def halt(self) -> None:
        """Stop the arm, and return when it has been told to stand still."""
        self._handle(LoopEvent.HALT, "the node ends")
        self._send_timer.cancel()
        while self.state.brakes:
            # The executor waits for this; simulated time stands still meanwhile.
            time.sleep(min(max(self._loop.send_ns - self._now_ns(), 0), self._control_ns) / NS_PER_S)
            self._brake(max(self._now_ns(), self._loop.send_ns))
            self._give_up_braking()
        self._watch_timer.cancel()
        self._handle(LoopEvent.HALT)

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
        self._forget_motion()
        self.stopped, self._enabled_ns = "", self._now_ns()
        self._handle(LoopEvent.ENABLE)

    def disable(self, reason: str) -> None:
        """Stop, and wait to be enabled; `reason` is kept for the status unless it is empty."""
        self.stopped = reason
        self._handle(LoopEvent.DISABLE, reason or "stopped")

    def restart(self) -> None:
        """Stop, and close the loop anew at the next frame if enabled."""
        self._enabled_ns = self._now_ns()
        self._handle(LoopEvent.RESET, "reset")

    def emergency_stop(self, pressed: bool) -> None:
        """Stop and stay so while it is pressed; afterwards wait to be enabled."""
        if pressed and not self._estop:
            self.stopped = "e-stop"
            self._handle(LoopEvent.E_STOP, "e-stop")
        elif self._estop and not pressed:
            self.stopped = "the e-stop was released; enable again"
        self._estop = pressed

    def on_embedding(self, stamp_ns: int, embedding: Embedding | None) -> None:
        """Close the loop at a new frame, if it may be closed, and have the frame observed."""
        self._check()
        fresh = min(stamp_ns, self._inputs.joints.stamp_ns or 0) >= self._enabled_ns
        if self.state is LoopState.CLOSING and embedding is not None and fresh and self._planning.ready:
            self._close(stamp_ns)
        if self.state is LoopState.MOVING and embedding is not None:
            positions_rad = self._inputs.positions_at(stamp_ns)
            judged = self._motion.scale == 1.0
            self._planning.observe(EncodedObservation(stamp_ns, embedding, positions_rad, judged))

    def _close(self, stamp_ns: int) -> None:
        """Close the loop at a frame; commands are to go out just after plans are usually there."""
        now_ns, early_ns = self._now_ns(), min(EARLY_NS, self._control_ns // 2)
        delay_ns = self._inputs.embedding_age_ns(EXPECTED_PERCENT) + self._planning.expected_ns() + MARGIN_NS
        phase_ns = stamp_ns + delay_ns
        if self._node.get_clock().ros_time_is_active:
            # Simulated time is always at a tick, now too; commands go out at ticks, and one may be overlooked.
            tick_ns = self._control_ns // SIMULATED_TICKS
            phase_ns += (now_ns - phase_ns) % tick_ns
            early_ns = 3 * tick_ns // 2
        lead_ns = self._output.lead_steps * self._control_ns + early_ns
        self._loop = ControlLoop(self._control_ns, lead_ns, phase_ns, now_ns)
        self._forget_motion()
        self._motion.begin(self._loop, self._inputs.joints.value)
        self._planning.begin(self._loop, self._motion.newest_action)
        self._handle(LoopEvent.FRAME)
        self._arm_timer()

    def _handle(self, event: LoopEvent, reason: str = "") -> None:
        """Go where the event leads."""
        before, self.state = self.state, next_state(self.state, event)
        if before is LoopState.MOVING and self.state is not before:
            self._planning.end()
            self._braking_since_s = time.monotonic()
            self._node.get_logger().info(f"stopping: {reason}")

    def _check(self) -> None:
        """See whether all is well."""
        self._check_clock()
        problem = self.problem()
        self._handle(LoopEvent.PROBLEM if problem else LoopEvent.ALL_WELL, problem)

    def _check_clock(self) -> None:
        jumped, now_ns = bool(self._clock_problem), self._now_ns()
        if now_ns != self._clock_ns:
            self._clock_ns, self._clock_moved_s = now_ns, time.monotonic()
        self._clock_problem = self._clock_watch.check(now_ns / NS_PER_S, time.monotonic())
        if self._clock_problem:
            self._enabled_ns = now_ns  # Times from before the jump say nothing about times after it.
        if self._clock_problem and not jumped:
            self._motion.clock_jumped(now_ns)
            if self.state is LoopState.MOVING or self.state.brakes:
                self._arm_timer()

    def _send(self) -> None:
        """Send the command that is due; nothing else sends one while the clock goes."""
        self._check()
        now_ns = self._now_ns()
        if self.state is LoopState.MOVING:
            measured_rad = self._inputs.joints.value
            if (step_ns := self._motion.step(now_ns, measured_rad)) is not None:
                self._trace.commanded(step_ns, time.time_ns())
            if (commanded_rad := self._output.commanded_rad) is not None:
                self._follow_watch.saw(time.monotonic(), commanded_rad, measured_rad)
            grip, position = self._output.commanded_grip, self._inputs.gripper
            if grip is not None and position is not None:
                self._gripper_watch.saw(time.monotonic(), grip, position)
        elif self.state.brakes:
            self._brake(now_ns)
        if self.state is LoopState.MOVING or self.state.brakes:
            self._arm_timer()
        else:
            self._send_timer.cancel()

    def _forget_motion(self) -> None:
        self._follow_watch.forget()
        self._gripper_watch.forget()

    def _brake(self, now_ns: int) -> None:
        if self._motion.brake(now_ns, self._inputs.joints.value):
            self._handle(LoopEvent.STANDSTILL)

    def _give_up_braking(self) -> None:
        if time.monotonic() - self._braking_since_s > MAX_BRAKING_S:
            self._handle(LoopEvent.BRAKING_TAKES_TOO_LONG)

    def _arm_timer(self) -> None:
        """Wake when the next command goes out."""
        self._send_timer.timer_period_ns = max(self._loop.send_ns - self._now_ns(), MIN_TIMER_NS)
        self._send_timer.reset()

    def _watch(self) -> None:
        """Look for what no message reports."""
        self._check()
        reason = self._planning.reason_to_stop() or self._follow_watch.problem or self._gripper_watch.problem
        if reason and self.state.enabled and not self.stopped:
            self.disable(reason)
        if self.state.brakes:
            if time.monotonic() - self._clock_moved_s > CLOCK_STANDS_S:
                self._brake(self._loop.send_ns)
            self._give_up_braking()

    def _now_ns(self) -> int:
        return self._node.get_clock().now().nanoseconds
