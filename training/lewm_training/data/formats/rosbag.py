"""`lewm import --from rosbag`: rosbag2 recordings (MCAP or SQLite) become episodes at a fixed rate.

Every row holds what the topics of the robot held at its time, by header stamp; where one of them pauses, the episode
ends, and nothing is made up.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from textwrap import shorten
from typing import Any

import h5py
from tqdm import tqdm

from lewm_ros.observation.selection import Skipped
from lewm_ros.observation.stamps import NS_PER_S
from lewm_ros.observation.timeline import ClockJump, Figures, Sample, Timeline, Track
from lewm_training.data import DatasetError, EpisodeError
from lewm_training.data.fingerprint import fingerprint
from lewm_training.data.formats.rosbag_config import RecordingConfig, load_config
from lewm_training.data.formats.rosbag_episode import RecordedEpisode
from lewm_training.data.formats.rosbag_files import LONGEST_REASON, files_of, find_bags, open_bag
from lewm_training.data.formats.rosbag_report import merge_figures, report_lines, why_nothing
from lewm_training.data.formats.rosbag_topics import RecordedCamera, Sources
from lewm_training.data.writing import Episode, import_episodes, part_path

PATIENCE_S = 1.0
"""How much later than the newest message of all a message may have been recorded without being overlooked."""

NamedEpisode = tuple[str, Callable[[], Episode]]


def import_data(source: Path, out: Path, config: Path | None, skip_bad: bool) -> dict[str, Any]:
    """Read all recordings under `source` into the HDF5 file `out`; returns the figures.

    Finished episodes wait in `OUT.parts/` until all are there; an interrupted import goes on from them.

    Args:
        source: a rosbag2 folder, an MCAP or SQLite file, or a folder of these.
        out: file to write.
        config: YAML of `RecordingConfig`.
        skip_bad: leave bad episodes and recordings out and count them.

    Raises:
        ConfigError: the YAML does not fit.
        DatasetError: a recording or an episode is bad, or nothing is left.
    """
    settings = load_config(config)
    cameras = {name: RecordedCamera(settings.image_size, settings.image_encoding) for name in settings.camera_topics}
    bags = find_bags(source)
    recordings = [RecordingReader(path, settings, cameras, alone=len(bags) == 1) for path in bags]

    def episodes(recording: RecordingReader, state: str) -> Iterator[NamedEpisode]:
        def written() -> bool:
            """Whether the episode that now begins is on disk; if so, the cameras' sizes are taken from there."""
            part = part_path(out, state, recording.begun)
            if part.exists():
                with h5py.File(part, "r") as file:
                    sizes_px = json.loads(file.attrs["meta"])["camera_px"]
                for name, size_px in sizes_px.items():
                    cameras[name].size = tuple(size_px)
            return part.exists()

        yield from recording.episodes(written, skip_bad)
        for line in recording.report():
            tqdm.write(line)
        if recording is recordings[-1] and not any(r.begun for r in recordings):
            reasons = "; ".join(f"{r.path.name}: {why_nothing(r.figures, r.short)}" for r in recordings[:3])
            raise DatasetError(f"{source}: no episode; {reasons}")

    states = [fingerprint(files_of(recording.path)) for recording in recordings]
    sources = [(state, episodes(recording, state)) for recording, state in zip(recordings, states, strict=True)]
    origin = {"format": "rosbag", "recordings": [str(recording.path.resolve()) for recording in recordings]}
    made_with = {"format": "rosbag", "source": str(source.resolve())} | asdict(settings)
    figures = import_episodes(out, sources, made_with, settings.spec(), 1, skip_bad, origin=origin)
    return figures | {
        "recordings": len(recordings),
        "short": sum(recording.short for recording in recordings),
        "ends": [
            f"{recording.path.name}: {time_ns / NS_PER_S:.3f} s: {reason}"
            for recording in recordings
            for time_ns, reason in recording.ends
        ],
        "topics": merge_figures([recording.figures for recording in recordings]),
    }


class RecordingReader:
    """One recording on its way into episodes.

    Args:
        path: of the recording.
        config: topics and rates.
        cameras: read the images of all recordings, by name.
        alone: there are no others, so that it does not help to leave it out.
    """

    def __init__(self, path: Path, config: RecordingConfig, cameras: dict[str, RecordedCamera], alone: bool) -> None:
        self.path = path
        self.samples = self.short = self.begun = 0
        self.ends: list[tuple[int, str]] = []
        self._config, self._cameras, self._alone = config, cameras, alone
        self._sources: Sources | None = None
        self._tracks: dict[str, Track] = {}
        self._episode: RecordedEpisode | None = None
        self._newest: Sample | None = None

    @property
    def figures(self) -> dict[str, Figures]:
        """What came in and what became of it, by topic."""
        if self._sources is None:
            return {}
        found = {label: track.figures for label, track in self._tracks.items()}
        return self._sources.cameras.figures(found.pop(self._sources.cameras.label)) | found

    def episodes(self, written: Callable[[], bool], skip_bad: bool) -> Iterator[NamedEpisode]:
        """The episodes, each with its name and what reads it or raises EpisodeError.

        Args:
            written: asked when an episode begins whether it need not be read any more.
            skip_bad: a recording that cannot be read counts as a bad episode, after those before the damage.

        Raises:
            DatasetError: the recording cannot be read.
        """
        try:
            yield from self._read(written)
        except DatasetError as error:
            if not skip_bad:
                hint = "" if self._alone else "; --skip-bad leaves such recordings out"
                raise DatasetError(f"{error}{hint}") from None
            yield self._name(), _refuse(EpisodeError(str(error)))

    def report(self) -> list[str]:
        """Lines for people."""
        return report_lines(self.path.name, self.samples, self.figures, self.ends, self._config.frames_label)

    def _read(self, written: Callable[[], bool]) -> Iterator[NamedEpisode]:
        config = self._config
        with open_bag(self.path) as bag:
            try:
                sources = Sources(config, bag.channels, self._cameras)
            except DatasetError as error:
                raise DatasetError(f"{self.path}: {shorten(str(error), LONGEST_REASON)}") from None
            rules = {label: source.rule for label, source in sources.tracks.items()}
            patience_s = PATIENCE_S + sources.cameras.patience_s
            timeline = Timeline(rules, sources.cameras.label, config.control_hz, patience_s)
            self._sources, self._tracks, self.ends = sources, timeline.tracks, timeline.ends
            labels = sources.of_topic()
            for topic, message, received_ns in bag.messages(labels, self.path.name):
                for label in labels[topic]:
                    for sample in self._push(sources, timeline, label, topic, message, received_ns):
                        yield from self._take(sample, sources, written)
            left = [timeline.push(sources.cameras.label, held) for held in sources.cameras.finish()]
            for sample in (*chain(*left), *timeline.finish()):
                yield from self._take(sample, sources, written)
        yield from self._close()

    def _push(
        self, sources: Sources, timeline: Timeline, label: str, topic: str, message: Any, received_ns: int
    ) -> list[Sample]:
        """The samples that a message completes; a bad stamp is the end of the episode that it falls into."""
        samples: list[Sample] = []
        try:
            for held in sources.tracks[label].receive(topic, message, received_ns):
                samples += timeline.push(label, held)
        except Skipped as error:
            self._tracks[label].figures.drop(error.kind, str(error))
        except ClockJump as error:
            self._blame(f"{topic}: {error}")
            timeline.restart(f"{topic}: {error}")
            sources.cameras.restart()
        except ValueError as error:
            self._blame(f"{topic}: {error}")
        return samples

    def _take(self, sample: Sample, sources: Sources, written: Callable[[], bool]) -> Iterator[NamedEpisode]:
        """Append a sample to the episode, or begin the next one with it; yields the one that is complete."""
        config, newest = self._config, self._newest
        same_segment = newest is not None and newest.segment == sample.segment
        longest = round(config.max_episode_s * config.control_hz)
        if self._episode is None or not same_segment or self._episode.rows == longest:
            yield from self._close()
            self._episode = RecordedEpisode(config, sources, written())
            if same_segment:  # cut for its length: no row is lost
                self._episode.add(newest)
        self._episode.add(sample)
        sources.cameras.use(sample.held[sources.cameras.label], sample.time_ns)
        self._newest = sample
        self.samples += 1

    def _close(self) -> Iterator[NamedEpisode]:
        episode, self._episode = self._episode, None
        if episode is None:
            return
        if not episode.refused and episode.rows < self._config.min_episode_s * self._config.control_hz:
            self.short += 1
            return

        def read() -> Episode:
            columns, notes = episode.read()
            return columns, notes | {"camera_px": {name: camera.size for name, camera in self._cameras.items()}}

        yield self._name(), read

    def _blame(self, reason: str) -> None:
        """Refuse the episode that a bad message falls into, if it falls into one."""
        if self._episode is not None:
            self._episode.refuse(reason)

    def _name(self) -> str:
        """RecordingReader and number of the next episode."""
        self.begun += 1
        return f"{self.path.name}/{self.begun - 1}"


def _refuse(error: EpisodeError) -> Callable[[], Episode]:
    def read() -> Episode:
        raise error

    return read
