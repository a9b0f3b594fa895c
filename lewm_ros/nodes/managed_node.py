"""What the managed nodes have in common: transitions that say why they fail, and that release what they created."""

from __future__ import annotations

import gc
import traceback
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from lifecycle_msgs.srv import ChangeState
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.exceptions import ParameterException
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher, LifecycleState, TransitionCallbackReturn

from lewm_ros.config import UserError
from lewm_ros.nodes.diagnostics import Diagnostics, Status
from lewm_ros.nodes.parameters import Parameters

USER_ERRORS = (UserError, ParameterException)
"""What the user gave wrongly; the message is one line."""


class ManagedNode(LifecycleNode):
    """A node with a lifecycle, whose subclass fills in four steps.

    `configure` may create publishers, subscriptions, timers and services: they are destroyed on clean-up, or when
    `configure` itself fails. A step that raises one of `USER_ERRORS` leaves the node in the state that it was in;
    `failure` then says why.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.failure = ""
        self.parameters = Parameters(self, lambda: self.state in ("inactive", "active"))
        self.autostart = self.parameters.declare("autostart", True, "configured and activated at the start")
        self.diagnostics = Diagnostics(self, self._managed_status, self._managed_values)
        # rclpy lets a transition that does not fit the state end the whole node.
        self._service_change_state.callback = self._answering(self._service_change_state.callback)
        self._permanent = self._entities()

    @property
    def state(self) -> str:
        """unconfigured, inactive, active, finalized, or the transition under way."""
        # rclpy has no public access to it.
        return self._state_machine.current_state[1]

    def create_lifecycle_publisher(self, *args: Any, **kwargs: Any) -> LifecyclePublisher:
        # A subscriber that a publisher does not suit says so itself, and every event that is watched for makes each
        # wake-up of rclpy's executor slower.
        silent = PublisherEventCallbacks(use_default_callbacks=False)
        return super().create_lifecycle_publisher(*args, event_callbacks=silent, **kwargs)

    # For subclasses

    @abstractmethod
    def configure(self) -> None:
        """Load and create what is needed."""

    @abstractmethod
    def activate(self) -> None:
        """Begin to work; lifecycle publishers are open already."""

    @abstractmethod
    def deactivate(self) -> None:
        """End the work; lifecycle publishers are still open."""

    @abstractmethod
    def cleanup(self) -> None:
        """Let go of what `configure` made, also if it failed half-way."""

    @abstractmethod
    def status(self) -> Status:
        """How an active node is doing."""

    @abstractmethod
    def values(self) -> dict[str, Any]:
        """Figures of a configured node for the diagnostics."""

    # Transitions

    def start(self) -> bool:
        """Configure and activate; False, with the reason in `failure`, if that is not possible."""
        success = TransitionCallbackReturn.SUCCESS
        return self.trigger_configure() == success and self.trigger_activate() == success

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = self._attempt(self.configure)
        if result == TransitionCallbackReturn.SUCCESS:
            _spare_from_collection()
        else:
            self._release()
        return result

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        super().on_activate(state)
        result = self._attempt(self.activate)
        if result != TransitionCallbackReturn.SUCCESS:
            super().on_deactivate(state)
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = self._attempt(self.deactivate)
        super().on_deactivate(state)
        return result

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._attempt(self._release)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._attempt(lambda: self._wind_down(state.label))

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        # `failure` still says what has led here.
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        self._wind_down(self.state)
        super().destroy_node()

    def _wind_down(self, state: str) -> None:
        if state == "active":
            self.deactivate()
        if state in ("active", "inactive"):
            self._release()

    def _attempt(self, step: Callable[[], None]) -> TransitionCallbackReturn:
        self.failure = ""
        try:
            step()
        except USER_ERRORS as error:
            self.failure = " ".join(str(error).split())
            return TransitionCallbackReturn.FAILURE
        except Exception as bug:
            # rclpy would turn it into ERROR without a word.
            self.failure = f"{type(bug).__name__}: {bug}"
            self.get_logger().error(traceback.format_exc())
            return TransitionCallbackReturn.ERROR
        return TransitionCallbackReturn.SUCCESS

    def _release(self) -> None:
        self.cleanup()
        destroy = (
            self.destroy_lifecycle_publisher,
            self.destroy_subscription,
            self.destroy_timer,
            self.destroy_service,
        )
        for destroy_one, kept, present in zip(destroy, self._permanent, self._entities(), strict=True):
            for entity in present:
                if entity not in kept:
                    destroy_one(entity)

    def _entities(self) -> tuple[list[Any], ...]:
        return list(self.publishers), list(self.subscriptions), list(self.timers), list(self.services)

    def _answering(self, change_state: Callable[..., ChangeState.Response]) -> Callable[..., ChangeState.Response]:
        def answer(request: ChangeState.Request, response: ChangeState.Response) -> ChangeState.Response:
            before = self.state
            try:
                response = change_state(request, response)
            except RuntimeError:
                self.failure = f"no such transition from the state '{before}'"
                response.success = False
            if self.failure:
                self.get_logger().error(self.failure)
            self.diagnostics.publish()
            return response

        return answer

    # Diagnostics

    def _managed_status(self) -> Status:
        if self.state == "active":
            return self.status()
        return Status.error(f"{self.state}: {self.failure}") if self.failure else Status.ok(self.state)

    def _managed_values(self) -> dict[str, Any]:
        values = self.values() if self.state in ("inactive", "active") else {}
        return {"lifecycle": self.state} | values


def _spare_from_collection() -> None:
    """Have Python look no more for garbage among all that is there by now, modules and models.

    Going through it takes 0.2 s, which would come at any time, and in which no command could be sent. What an earlier
    configuration has left behind goes now.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
