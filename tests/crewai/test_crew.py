"""Crews whose agents think with AideonLLM."""

from __future__ import annotations

import pytest
from crewai.tools import tool

from aideon_core import Usage
from aideon_testing import Reply
from crewai import Agent, Crew, Task


def agent(role, llm, **more):
    return Agent(role=role, goal="Do it well", backstory="You work plainly.", llm=llm, **more)


def task(what, who):
    return Task(description=what, expected_output="One line", agent=who)


def said(text):
    return Reply(f"Thought: I now know the answer.\nFinal Answer: {text}", usage=Usage(10, 5))


@pytest.mark.parametrize("stream", [False, True])
def test_a_crew_of_two_finishes_and_counts(llm_over, together, stream):
    """Two agents do a task each; the crew has the last result and all the tokens."""
    together.script.reply(said("Herons are grey."), said("Herons in grey, all day."))
    # CrewAI counts an LLM once for each agent that has it, so each has its own.
    scout, poet = (agent(role, llm_over(stream=stream)) for role in ("Scout", "Poet"))
    crew = Crew(agents=[scout, poet], tasks=[task("Look.", scout), task("Rhyme.", poet)])
    result = crew.kickoff()
    assert result.raw == "Herons in grey, all day."
    assert result.tasks_output[0].raw == "Herons are grey."
    assert crew.usage_metrics.total_tokens == 30
    assert crew.usage_metrics.successful_requests == 2
    assert "Herons are grey." in str(together.requests[1].body["messages"])


def test_an_agent_uses_a_tool_in_text(llm_over, together):
    """Without native tool calls an agent still uses its tools, step by step."""

    @tool("count_herons")
    def count_herons(place: str) -> str:
        """Count the herons in a place."""
        return f"4 herons at the {place}"

    together.script.reply(
        Reply('Thought: I look.\nAction: count_herons\nAction Input: {"place": "weir"}'),
        said("Four."),
    )
    watcher = agent("Watcher", llm_over(), tools=[count_herons])
    result = Crew(agents=[watcher], tasks=[task("Count.", watcher)]).kickoff()
    assert result.raw == "Four."
    assert "4 herons at the weir" in str(together.requests[1].body["messages"])
    assert "tools" not in together.requests[0].body


def test_a_crew_can_be_run_again(llm_over, together):
    """kickoff_for_each copies the crew, and each copy answers."""
    together.script.reply(said("One."), said("Two."))
    poet = agent("Poet", llm_over())
    crew = Crew(agents=[poet], tasks=[task("Rhyme on {what}.", poet)])
    results = crew.kickoff_for_each([{"what": "herons"}, {"what": "owls"}])
    assert [result.raw for result in results] == ["One.", "Two."]
