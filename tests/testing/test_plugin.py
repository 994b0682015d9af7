"""The pytest plugin in a stranger's project, which has nothing but the package installed."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest

pytest_plugins = ["pytester"]

# What every project has: the standard library.
ASK = """
import json, os, urllib.error, urllib.request

def post(url, key, text="Hello?", model="openai/gpt-oss-120b"):
    content = {"model": model, "messages": [{"role": "user", "content": text}]}
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(content).encode(), headers
    )
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.load(response)["choices"][0]["message"]["content"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["x-request-id"]
"""


@pytest.fixture
def project(pytester, monkeypatch):
    """A stranger's project; running it says how many of its tests passed."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    # Of the entry points installed here only ours is loaded, by its name, and what a test names.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(ask=ASK)

    def run(source: str, *options: str):
        pytester.makepyfile(test_it=source)
        return pytester.runpytest_subprocess(
            "-Werror", "--strict-markers", "-p", "aideon_testing", *options
        )

    return run


def test_the_fixtures_are_there_at_once(project):
    """Installing the package is enough: no import, no conftest, no setting."""
    names = [point.name for point in entry_points(group="pytest11", module="aideon_testing.plugin")]
    assert names == ["aideon_testing"]
    result = project(
        """
        import os
        from ask import post

        def test_server(together):
            together.script.say("42")
            assert post(together.base_url, together.api_key) == (200, "42")
            assert together.requests[0].body["messages"][0]["content"] == "Hello?"

        def test_environment(together_env):
            url, key = os.environ["TOGETHER_BASE_URL"], os.environ["TOGETHER_API_KEY"]
            assert os.environ["TOGETHER_API_BASE"] == url + "/v1"
            assert url == together_env.base_url
            assert post(url, key)[0] == 200

        def test_both_are_one(together, together_env):
            assert together is together_env
        """
    )
    result.assert_outcomes(passed=3)


def test_each_test_has_a_fresh_server_and_its_old_environment(project):
    """Nothing of one test is left for the next: no script, no faults, no variables."""
    result = project(
        """
        import os
        import pytest
        from ask import post
        from aideon_testing import Failure

        @pytest.mark.parametrize("run", range(3))
        def test_alone(together_env, run):
            assert together_env.requests == []
            assert post(together_env.base_url, "k")[1] == "The loopback server heard: Hello?"
            together_env.script.say("left over")
            together_env.faults.always(Failure.server_error())
            together_env.keys.revoke("k")

        def test_environment():
            assert "TOGETHER_API_KEY" not in os.environ
        """
    )
    result.assert_outcomes(passed=4)


def test_the_marker_says_how_the_server_is_made(project):
    """Marks on a test or a module give the server its models, keys, limits and answers."""
    result = project(
        """
        import os
        import pytest
        from ask import post
        from aideon_testing import RateLimits, Reply, Script

        pytestmark = pytest.mark.together(models=["a/b"])

        def test_models(together):
            assert post(together.base_url, "k", model="a/b")[0] == 200
            assert post(together.base_url, "k")[0] == 404

        @pytest.mark.together(api_key="right", limits=RateLimits(requests_per_second=0.5))
        def test_key_and_limits(together_env):
            assert os.environ["TOGETHER_API_KEY"] == "right"
            codes = [post(together_env.base_url, key)[0] for key in ("wrong", "right", "right")]
            assert codes == [401, 200, 429]
        """
    )
    result.assert_outcomes(passed=2)


def test_async_tests_use_the_same_fixture(project):
    """With asyncio.run or with an asyncio plugin, the server answers while the loop runs."""
    result = project(
        """
        import asyncio
        from ask import post

        async def ask(together):
            together.script.say("one", "two")
            asked = [asyncio.to_thread(post, together.base_url, "k") for _ in range(2)]
            answers = await asyncio.gather(*asked)
            assert sorted(answers) == [(200, "one"), (200, "two")]

        def test_sync(together):
            asyncio.run(ask(together))

        async def test_async(together):
            await ask(together)
        """,
        *("-p", "asyncio", "--asyncio-mode=auto"),
        *("-o", "asyncio_default_fixture_loop_scope=function"),
    )
    result.assert_outcomes(passed=2)
