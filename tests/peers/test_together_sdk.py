"""What only Together's own SDK has: every family of endpoints, sync and async."""

from __future__ import annotations

import io
import json
import wave
from base64 import b64decode
from functools import partial

import httpx
import pytest
from together import AsyncTogether, NotFoundError, Together

MODEL = "openai/gpt-oss-20b"
HELLO = {"model": MODEL, "messages": [{"role": "user", "content": "Say hello."}]}
TOOL = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}


@pytest.fixture(params=[Together, AsyncTogether], ids=lambda kind: kind.__name__)
async def client(request, together, settled):
    """The SDK pointed at the server; nothing is tried again."""
    client = request.param(api_key="loopback", base_url=together.base_url, max_retries=0)
    yield client
    await settled(client.close())


@pytest.fixture
def batch_file(tmp_path):
    """Two requests of a batch, the second of which cannot be answered."""
    lines = [
        {"custom_id": "good", "body": HELLO},
        {"custom_id": "bad", "body": HELLO | {"model": "no/such-model"}},
    ]
    path = tmp_path / "requests.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


@pytest.fixture
def sound():
    """A second of silence."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(8000)
        writer.writeframes(bytes(16000))
    return ("silence.wav", file.getvalue())


async def test_every_sampling_parameter_is_taken(client, together, settled):
    """Whatever the SDK's types allow is sent and answered."""
    sampling = {
        "max_tokens": 100,
        "stop": ["###"],
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.1,
        "logit_bias": {"1024": -10.0},
        "seed": 7,
        "reasoning_effort": "low",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "any", "schema": {"type": "object"}, "strict": True},
        },
        "tool_choice": "auto",
        "context_length_exceeded_behavior": "error",
    }
    together.script.say("{}")
    answer = await settled(client.chat.completions.create(**HELLO, tools=[TOOL], **sampling))
    assert answer.choices[0].message.content == "{}"
    assert together.requests[-1].body == HELLO | sampling | {"tools": [TOOL]}


async def test_an_address_that_ends_in_v1_is_understood(client, together, settled):
    """Together's documentation shows such an address, and the SDK then asks for /v1/v1."""
    other = client.with_options(base_url=f"{together.base_url}/v1")
    together.script.say("Hello.")
    assert (await settled(other.chat.completions.create(**HELLO))).choices[0].message.content
    assert together.requests[-1].path == "/v1/v1/chat/completions"


async def test_a_completion_goes_on_from_the_prompt(client, together, settled, pieces_of):
    """Whole and streamed completions give the text, the finish reason and the usage."""
    together.script.say(*[" a city of love"] * 2)
    asked = {"model": MODEL, "prompt": "Paris is", "max_tokens": 20}
    answer = await settled(client.completions.create(**asked))
    assert (answer.object, answer.choices[0].text) == ("text.completion", " a city of love")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens == 4
    chunks = await pieces_of(await settled(client.completions.create(**asked, stream=True)))
    texts = [choice.text or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(texts) == " a city of love"
    assert chunks[-1].usage.completion_tokens == 4


async def test_logprobs_add_up_to_the_answer(client, together, settled):
    """With logprobs every token of the answer is there, with its logarithm."""
    together.script.say("Hello there.")
    answer = await settled(client.chat.completions.create(**HELLO, logprobs=1))
    logprobs = answer.choices[0].logprobs.model_dump()
    # Which of the two shapes comes depends on the engine; OpenAI's is the usual one today.
    rows = logprobs.get("content")
    tokens = [row["token"] for row in rows] if rows else logprobs["tokens"]
    values = [row["logprob"] for row in rows] if rows else logprobs["token_logprobs"]
    assert "".join(tokens) == "Hello there."
    assert all(value <= 0 for value in values)


async def test_several_choices_are_numbered(client, together, settled):
    """N asks for that many choices."""
    answer = await settled(client.chat.completions.create(**HELLO, n=2))
    assert [choice.index for choice in answer.choices] == [0, 1]


async def test_embeddings_come_one_for_each_text(client, settled):
    """The same text has the same vector; the order is that of the texts."""
    model = "intfloat/multilingual-e5-large-instruct"
    answer = await settled(client.embeddings.create(model=model, input=["one", "two", "one"]))
    vectors = [row.embedding for row in answer.data]
    assert [row.index for row in answer.data] == [0, 1, 2]
    assert vectors[0] == vectors[2] != vectors[1]
    assert {len(vector) for vector in vectors} == {1024}
    alone = await settled(client.embeddings.create(model=model, input="two"))
    assert alone.data[0].embedding == vectors[1]


async def test_documents_are_ranked(client, settled):
    """What shares words with the query comes first, and the documents come back when asked."""
    documents = ["Bread and butter.", "The capital of France is Paris.", "Rain in May."]
    answer = await settled(
        client.rerank.create(
            model="Salesforce/Llama-Rank-V1",
            query="What is the capital of France?",
            documents=documents,
            top_n=2,
            return_documents=True,
        )
    )
    assert len(answer.results) == 2
    assert answer.results[0].index == 1
    assert answer.results[0].document.text == documents[1]
    assert answer.results[0].relevance_score > answer.results[1].relevance_score


async def test_pictures_come_as_addresses_or_as_base64(client, settled):
    """An address answers with the picture; base64 holds the same one."""
    asked = {"model": "black-forest-labs/FLUX.1-schnell", "prompt": "A cat.", "width": 256}
    asked |= {"height": 256, "seed": 7}
    linked = await settled(client.images.generate(**asked))
    async with httpx.AsyncClient() as anybody:
        picture = await anybody.get(linked.data[0].url)
    assert picture.headers["content-type"] == "image/jpeg"
    inline = await settled(client.images.generate(**asked, response_format="base64"))
    assert b64decode(inline.data[0].b64_json) == picture.content


async def test_speech_is_sound(client, settled, pieces_of):
    """Whole speech is a playable file; streamed speech comes as raw sound in pieces."""
    asked = {"model": "hexgrad/Kokoro-82M", "input": "Hello there.", "voice": "af_alloy"}
    answer = await settled(client.audio.speech.create(**asked, response_format="wav"))
    content = await settled(answer.read())
    with wave.open(io.BytesIO(content)) as file:
        assert file.getframerate() == 24000
    stream = await settled(client.audio.speech.create(**asked, response_format="raw", stream=True))
    chunks = await pieces_of(stream)
    assert chunks
    assert all(b64decode(chunk.b64) for chunk in chunks)


async def test_voices_are_listed_by_model(client, settled):
    """Every model that speaks has voices."""
    voices = await settled(client.audio.voices.list())
    assert all(row.voices for row in voices.data)
    assert "hexgrad/Kokoro-82M" in {row.model for row in voices.data}


@pytest.mark.parametrize("task", ["transcriptions", "translations"])
async def test_sound_becomes_text(client, together, settled, sound, task):
    """What is scripted is what is heard, alone or with its times."""
    together.script.say(*["Hello there."] * 2)
    listen = getattr(client.audio, task).create
    assert (await settled(listen(file=sound))).text == "Hello there."
    told = await settled(
        listen(
            file=sound,
            model="openai/whisper-large-v3",
            language="en",
            response_format="verbose_json",
            timestamp_granularities=["segment", "word"],
        )
    )
    assert told.text == "Hello there."
    assert [word.word for word in told.words] == ["Hello", "there."]
    assert told.segments[-1].end <= told.duration


async def test_a_file_goes_up_and_comes_back(client, settled, batch_file):
    """upload, retrieve, list, content and delete agree on the file."""
    file = await settled(client.files.upload(batch_file, purpose="batch-api"))
    assert (file.filename, file.bytes) == ("requests.jsonl", batch_file.stat().st_size)
    assert (await settled(client.files.retrieve(file.id))).purpose == "batch-api"
    assert file.id in {row.id for row in (await settled(client.files.list())).data}
    content = await settled(client.files.content(file.id))
    assert await settled(content.read()) == batch_file.read_bytes()
    assert (await settled(client.files.delete(file.id))).deleted
    with pytest.raises(NotFoundError):
        await settled(client.files.retrieve(file.id))


async def test_the_same_file_is_not_sent_twice(client, together, settled, batch_file):
    """A second upload of the same content gives the first one's id."""
    first = await settled(client.files.upload(batch_file, purpose="batch-api"))
    second = await settled(client.files.upload(batch_file, purpose="batch-api"))
    assert second.id == first.id
    assert sum(request.method == "PUT" for request in together.requests) == 1


async def test_a_batch_is_worked_off(client, together, settled, batch_file):
    """Good lines go to the output file, bad ones to the error file, each by its id."""
    together.script.say("Hello.")
    file = await settled(client.files.upload(batch_file, purpose="batch-api"))
    job = (
        await settled(client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions"))
    ).job
    for _ in range(20):
        job = await settled(client.batches.retrieve(job.id))
        if job.status == "COMPLETED":
            break
    assert (job.status, job.progress) == ("COMPLETED", 100)
    assert job.id in {row.id for row in await settled(client.batches.list())}
    (good,) = await _lines(client, settled, job.output_file_id)
    assert good["custom_id"] == "good"
    assert good["response"]["body"]["choices"][0]["message"]["content"] == "Hello."
    (bad,) = await _lines(client, settled, job.error_file_id)
    assert bad["custom_id"] == "bad"


async def test_a_batch_can_be_cancelled(client, settled, batch_file):
    """A cancelled batch stays cancelled."""
    file = await settled(client.files.upload(batch_file, purpose="batch-api"))
    created = await settled(
        client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions")
    )
    assert (await settled(client.batches.cancel(created.job.id))).status == "CANCELLED"
    assert (await settled(client.batches.retrieve(created.job.id))).status == "CANCELLED"


async def test_a_batch_error_is_a_text(client, settled):
    """The errors of batches are no objects; the SDK raises them all the same."""
    with pytest.raises(NotFoundError) as caught:
        await settled(client.batches.retrieve("9f3b2c1e-0000-4000-8000-000000000000"))
    assert isinstance(caught.value.body["error"], str)


async def test_the_catalogue_is_read_page_by_page(client, pieces_of):
    """Every model that is served is listed once, whatever the size of the page."""
    whole = [row.name async for row in _each(client.models.list_supported(limit=100))]
    paged = [row.name async for row in _each(client.models.list_supported(limit=2))]
    assert whole == paged
    assert MODEL in whole
    assert len(set(whole)) == len(whole)


async def test_whoami_says_whose_key_it_is(client, settled):
    """The key belongs to a project of an organization."""
    me = await settled(client.whoami())
    assert me.type == "project_api_key"
    assert me.project.id


async def test_every_family_fails_alike(client, settled):
    """What is no such model is refused by every endpoint, with a body that says so."""
    calls = [
        partial(client.completions.create, prompt="x"),
        partial(client.embeddings.create, input="x"),
        partial(client.images.generate, prompt="x"),
        partial(client.rerank.create, query="x", documents=["x"]),
        partial(client.audio.speech.create, input="x", voice="x"),
    ]
    for call in calls:
        with pytest.raises(NotFoundError) as caught:
            await settled(call(model="no/such"))
        assert caught.value.body["error"]["code"] == "model_not_available"


async def _lines(client, settled, file_id):
    content = await settled((await settled(client.files.content(file_id))).read())
    return [json.loads(line) for line in content.splitlines()]


async def _each(page):
    if hasattr(page, "__aiter__"):
        async for row in page:
            yield row
    else:
        for row in page:
            yield row
