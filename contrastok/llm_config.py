"""Options of gen-pairs about a language model that writes what glossary and corpus lack."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, kw_only=True)
class LLMOptions:
    """Off unless a server is named. A key, where one is needed, comes from the variable CONTRASTOK_LLM_KEY."""

    llm: str | None = None
    """OpenAI-compatible server (http://localhost:8000/v1) that is asked for sentences and definitions where terms lack
    them. It is sent these terms, what the glossary says of them, and up to 3 of their sentences. Default: nobody is."""
    llm_model: str = ""
    """The model to ask for there."""
    llm_sentences: int = 8
    """Sentences asked for, for each term with fewer than --min-sentences."""
    llm_parallel: int = 4
    """Requests under way at a time."""
    llm_rate: float = 0.0
    """Requests a second at most; 0: no limit."""
    llm_timeout: float = 120.0
    """Seconds until a request is given up and sent again."""
    llm_retries: int = 5
    """How often a request is sent again when the server is busy, fails or is silent; each time it waits longer."""

    def llm_problems(self) -> list[str]:
        """Everything that is wrong with these options, one sentence each."""
        found = []
        if self.llm is None:
            return ["--llm-model is for --llm"] if self.llm_model else []
        if not self.llm_model:
            found.append("--llm needs --llm-model, the name of the model to ask for")
        found += _url_problems(self.llm)
        for name, low in (("llm_sentences", 1), ("llm_parallel", 1), ("llm_rate", 0), ("llm_retries", 0)):
            if not getattr(self, name) >= low:
                found.append(f"--{name.replace('_', '-')} must be at least {low}, not {getattr(self, name)}")
        if not 0 < self.llm_timeout <= 3600:
            found.append(f"--llm-timeout must be above 0 and at most 3600, not {self.llm_timeout}")
        return found


def _url_problems(url: str) -> list[str]:
    try:
        parts = urlsplit(url)
        named = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        named = False
    if not named:
        return [f"--llm must be a URL such as http://localhost:8000/v1, not {url!r}"]
    if parts.username or parts.password:  # options are written to pairs.json
        return ["--llm must not hold a key: put it into the environment variable CONTRASTOK_LLM_KEY"]
    return []
