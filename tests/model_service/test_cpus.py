"""The number of CPUs, from a control group's files."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from model_service.runtime.cpus import available_cpus, cpu_quota

AFFINITY = len(os.sched_getaffinity(0))
V1_MOUNTS = "45 31 0:29 {root} {point} ro,nosuid - cgroup cgroup rw,cpu,cpuacct"
V2_MOUNTS = "45 31 0:29 {root} {point} ro,nosuid - cgroup2 cgroup rw,nsdelegate"
OTHER_MOUNTS = (
    "31 23 0:28 / {point} rw - tmpfs tmpfs rw,mode=755\n32 31 0:30 / {point}/memory rw - cgroup cgroup rw,memory"
)
DOCKER_V1 = "9:memory:/docker/ab\n4:cpu,cpuacct:/docker/ab\n0::/docker/ab\n"


@dataclass
class Machine:
    """What /proc/self and /sys/fs/cgroup say, in a directory."""

    directory: Path
    group: str
    mount: str
    root: str = "/"
    files: dict[str, str] = field(default_factory=dict)

    def write(self) -> Path:
        point = self.directory / "sys fs cgroup"  # mountinfo writes a blank as \040
        for name, text in self.files.items():
            (point / name).parent.mkdir(parents=True, exist_ok=True)
            (point / name).write_text(text)
        mounts = f"{OTHER_MOUNTS}\n{self.mount}\n".format(root=self.root, point=str(point).replace(" ", r"\040"))
        (self.directory / "mountinfo").write_text(mounts)
        (self.directory / "cgroup").write_text(self.group)
        return self.directory


def v1(quota: str, period: str = "100000", inside: str = "") -> dict[str, str]:
    return {f"{inside}cpu.cfs_quota_us": f"{quota}\n", f"{inside}cpu.cfs_period_us": f"{period}\n"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "100000 100000\n"}, 1.0),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "5000 20000\n"}, 0.25),
    ],
)
def test_reads_the_quota_of_version_2(tmp_path: Path, files: dict[str, str], expected: float | None) -> None:
    """In a namespace of its own the container's group is the root."""
    assert expected == cpu_quota(Machine(tmp_path, "0::/\n", V2_MOUNTS, files=files).write())


@pytest.mark.parametrize(
    ("files", "expected"),
    [({}, None), (v1("-1"), None), (v1("50000"), 0.5), (v1("400000", "200000"), 2.0)],
)
def test_reads_the_quota_of_version_1(tmp_path: Path, files: dict[str, str], expected: float | None) -> None:
    """Docker mounts the container's own directory there, and the path is still the host's."""
    assert expected == cpu_quota(Machine(tmp_path, DOCKER_V1, V1_MOUNTS, "/docker/ab", files).write())


def test_finds_a_group_within_the_hosts_tree(tmp_path: Path) -> None:
    """Without a namespace the mount shows every group of the host; ours is the one that /proc names."""
    files = {"other/cpu.max": "10000 100000", "ecs/task/cpu.max": "300000 100000", "ecs/cpu.max": "max 100000"}
    assert 3.0 == cpu_quota(Machine(tmp_path, "0::/ecs/task\n", V2_MOUNTS, files=files).write())


@pytest.mark.parametrize(
    ("group", "mount", "files"),
    [
        ("0::/task/one\n", V2_MOUNTS, {"task/cpu.max": "200000 100000", "task/one/cpu.max": "max 100000"}),
        ("0::/task/one\n", V2_MOUNTS, {"task/cpu.max": "400000 100000", "task/one/cpu.max": "200000 100000"}),
        ("4:cpu:/task/one\n0::/\n", V1_MOUNTS, v1("200000", inside="task/") | v1("-1", inside="task/one/")),
    ],
    ids=["v2-above", "v2-own", "v1-above"],
)
def test_the_tightest_quota_of_those_above_holds(tmp_path: Path, group: str, mount: str, files: dict[str, str]) -> None:
    """A task's quota binds its containers, which may have none of their own."""
    assert 2.0 == cpu_quota(Machine(tmp_path, group, mount, files=files).write())


def test_a_group_outside_the_mount_is_read_at_its_root(tmp_path: Path) -> None:
    """A process that was moved sees `/..` paths; what is mounted is all that it can see."""
    assert 2.0 == cpu_quota(Machine(tmp_path, "0::/../x\n", V2_MOUNTS, "/y", {"cpu.max": "200000 100000"}).write())


def test_the_controller_of_version_1_wins_on_a_hybrid_host(tmp_path: Path) -> None:
    """Where version 1 has the CPUs, version 2's tree has no quota to say."""
    mounts = f"{V1_MOUNTS}\n" + V2_MOUNTS.format(root="/", point=tmp_path / "unified")
    (tmp_path / "unified").mkdir()
    (tmp_path / "unified" / "cpu.max").write_text("900000 100000")
    assert 2.0 == cpu_quota(Machine(tmp_path, DOCKER_V1, mounts, "/docker/ab", v1("200000")).write())


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max", AFFINITY), ("25000", 1), ("100000", 1), ("100001", min(2, AFFINITY)), ("6400000", AFFINITY)],
)
def test_counts_whole_cpus(tmp_path: Path, quota: str, expected: int) -> None:
    """A quota is rounded up, is at least one CPU, and never exceeds the affinity."""
    files = {"cpu.max": f"{quota} 100000"}
    assert expected == available_cpus(Machine(tmp_path, "0::/\n", V2_MOUNTS, files=files).write())


def test_without_control_groups_the_affinity_counts(tmp_path: Path) -> None:
    """macOS has no /proc."""
    assert AFFINITY == available_cpus(tmp_path)
