"""The main job, three times: LangChain, LlamaIndex and CrewAI between a local model and the cloud.

Each framework asks three questions: one the local model answers, one the cloud answers, and
one for a cloud that is down. At the end a table shows every call that was made.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

# CrewAI reads these when it is imported; without them it reports to its makers.
os.environ |= {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_DISABLE_VERSION_CHECK": "true",
    "CREWAI_TESTING": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "OTEL_SDK_DISABLED": "true",
}

from rich.console import Console
from rich.table import Table

from aideon_core import AideonError, Client, Completion, Config
from aideon_core.config import DEFAULT_LOCAL, variable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aideon_core import Stream
    from aideon_core.request import Messages

TEXT = Path(__file__).parents[1] / "concepts" / "routing.md"
SCENES = {
    "local": "the local model answers",
    "cloud": "the cloud answers",
    "cloud down": "the cloud is down, so the local model answers",
}
console = Console(width=None if sys.stdout.isatty() else 150)


@dataclass
class Recorder:
    """A client for each scene, and every answer they gave."""

    base_url: str | None
    api_key: str
    answers: list[tuple[str, str, Completion | Stream]] = field(default_factory=list)
    framework: str = ""

    def client(self, scene: str) -> Client:
        """A client whose answers are kept for the table."""
        recorder, framework = self, self.framework

        class Recorded(Client):
            def chat(self, messages: Messages, **params: Any) -> Completion:  # noqa: ANN401
                answer = super().chat(messages, **params)
                recorder.answers.append((framework, scene, answer))
                return answer

            def stream(self, messages: Messages, **params: Any) -> Stream:  # noqa: ANN401
                stream = super().stream(messages, **params)
                recorder.answers.append((framework, scene, stream))
                return stream

        return Recorded(
            policy="local-first" if scene == "local" else "cloud-first",
            api_key=self.api_key,
            base_url=nowhere() if scene == "cloud down" else self.base_url,
        )


def nowhere() -> str:
    """An address on this machine where nobody listens: a cloud that is down."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


@contextmanager
def cloud() -> Iterator[Recorder]:
    """Together where there is a key, the loopback server where there is none; say which."""
    config = Config.load()
    with ExitStack() as stack:
        if key := variable("TOGETHER_API_KEY"):
            console.print(
                f"Cloud: {config.together_base_url}, with the key in TOGETHER_API_KEY; "
                "its calls are billed.\n"
            )
            yield Recorder(None, key)
            return
        from aideon_testing import GgufAnswers, LoopbackTogether

        answers = stack.enter_context(GgufAnswers(config.local or DEFAULT_LOCAL))
        server = stack.enter_context(LoopbackTogether(answers))
        console.print(
            f"[bold]Cloud: not Together AI[/] but a loopback server at {server.base_url}, because "
            "TOGETHER_API_KEY is not set.\nBehind it the same local model writes the answers; the "
            "model names and costs are what Together would bill for those tokens.\n"
        )
        yield Recorder(server.base_url, "loopback")


def langchain(recorder: Recorder) -> None:
    """A prompt, a model and a parser in one chain, streamed."""
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate

    from langchain_aideon import ChatAideon

    prompt = ChatPromptTemplate([("system", "Answer in one short sentence."), ("user", "{ask}")])
    for scene in SCENES:
        chat = ChatAideon(client=recorder.client(scene), max_tokens=60, temperature=0)
        chain = prompt | chat | StrOutputParser()
        said = "".join(chain.stream({"ask": "Why is the sky blue?"}))
        console.print(f"  {scene}: {said.strip()}", highlight=False)


def llama_index(recorder: Recorder) -> None:
    """A question about a page of this project's documentation."""
    from llama_index.core import Document, SummaryIndex

    from llama_index.llms.aideon import AideonLLM

    index = SummaryIndex.from_documents([Document(text=TEXT.read_text(encoding="utf-8"))])
    for scene in SCENES:
        llm = AideonLLM(client=recorder.client(scene), max_tokens=60, temperature=0)
        engine = index.as_query_engine(llm=llm, response_mode="compact")
        said = engine.query("What happens when a stream breaks after its first piece?")
        console.print(f"  {scene}: {str(said).strip()}", highlight=False)


def crewai(recorder: Recorder) -> None:
    """Two agents: one writes, one shortens what the first one wrote."""
    from crewai import Agent, Crew, Task
    from crewai_aideon import AideonLLM

    for scene in SCENES:
        llm = AideonLLM(client=recorder.client(scene), max_tokens=80, temperature=0)
        writer = Agent(
            role="Writer", goal="Write plainly", backstory="You write for children.", llm=llm
        )
        editor = Agent(
            role="Editor", goal="Shorten texts", backstory="You keep the point.", llm=llm
        )
        draft = Task(
            description="Explain in two sentences what a router does.",
            expected_output="Two sentences.",
            agent=writer,
        )
        short = Task(
            description="Say it in one sentence.",
            expected_output="One sentence.",
            agent=editor,
            context=[draft],
        )
        said = Crew(agents=[writer, editor], tasks=[draft, short]).kickoff()
        console.print(f"  {scene}: {str(said).strip()}", highlight=False)


def show(recorder: Recorder) -> None:
    """Every call: who answered, why, how many tokens, for how much, how long."""
    table = Table(title="Every call of this demo", show_lines=False)
    for name in ("framework", "scene", "answered by", "reason"):
        table.add_column(name, overflow="fold")
    for name in ("tokens in", "out", "cost, USD", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    for framework, scene, kept in recorder.answers:
        answer = kept if isinstance(kept, Completion) else kept.completion
        if answer is None or answer.route is None:
            raise RuntimeError(f"{framework} did not read the answer of {scene!r} to its end")
        usage, route = answer.usage, answer.route
        table.add_row(
            framework,
            scene,
            f"{route.side}: {route.model}",
            route.reason,
            str(usage.input_tokens) if usage else "unknown",
            str(usage.output_tokens) if usage else "unknown",
            "unknown" if answer.cost is None else f"{answer.cost:.6f}" if answer.cost else "0",
            f"{sum(attempt.seconds for attempt in route.attempts):.1f}",
        )
    console.print(table)


def main() -> int:
    """Run the three frameworks; 1 if something went wrong, with what to do next."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("CREWAI_STORAGE_DIR", folder)
        try:
            with cloud() as recorder:
                for job in (langchain, llama_index, crewai):
                    recorder.framework = job.__name__
                    console.print(f"[bold]{job.__name__}[/]: {(job.__doc__ or '').lower()}")
                    job(recorder)
                    console.print()
                show(recorder)
                last = recorder.answers[-1][2]
        except AideonError as error:
            console.print(f"[bold red]{type(error).__name__}[/]: {error}", highlight=False)
            return 1
    if isinstance(last, Completion) and last.route is not None:
        console.print("\nThe last call, by answer.route.explain():\n" + last.route.explain())
    console.print(f"\nDone in {time.perf_counter() - started:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
