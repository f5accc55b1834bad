"""Options of gen-pairs about where and with how much at once a corpus is mined."""

from __future__ import annotations

from dataclasses import dataclass

from contrastok.errors import did_you_mean


@dataclass(frozen=True, kw_only=True)
class ScaleOptions:
    """None of these changes what is found."""

    num_proc: int = 1
    """Shards of the corpus that are mined at a time: processes, or tasks of Ray."""
    engine: str = "local"
    """Where shards are mined: local (processes of this machine) or ray (a cluster; extra `ray`)."""
    ray_address: str = "local"
    """For --engine ray: local starts Ray on this machine, auto finds a running one, or an address."""

    def scale_problems(self) -> list[str]:
        """Everything that is wrong with these options, one sentence each."""
        from contrastok.data_gen.engines import ENGINES

        found = [] if self.num_proc >= 1 else [f"--num-proc must be at least 1, not {self.num_proc}"]
        if self.engine not in ENGINES:
            found.append(f"--engine {self.engine} is no engine: {did_you_mean(self.engine, ENGINES)}")
        if self.engine != "ray" and self.ray_address != "local":
            found.append("--ray-address is for --engine ray")
        return found
