"""POST /v1/audio/speech, /v1/audio/transcriptions and /v1/audio/translations, GET /v1/voices."""

from __future__ import annotations

import io
import itertools
import struct
import wave
from base64 import b64decode
from typing import TYPE_CHECKING

import httpx2
import openai
import pytest
import together as together_sdk
from hypothesis import given, settings
from hypothesis import strategies as st

from aideon_testing import Failure, Reply, sounds
from aideon_testing.endpoints.transcripts import Transcript

if TYPE_CHECKING:
    from collections.abc import Iterator

SPEECH = "/v1/audio/speech"
TRANSCRIPTIONS = "/v1/audio/transcriptions"
KOKORO = {"model": "hexgrad/Kokoro-82M", "voice": "af_alloy", "input": "Hello big world"}
SONIC = KOKORO | {"model": "cartesia/sonic"}
SOUND = ("talk.wav", sounds.wav(6.0, 8000), "audio/wav")
SAID = "Hello there. How are you? Fine"
BIT_RATES = {
    True: [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
    False: [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
}


@pytest.fixture
def sdk(together) -> Iterator[together_sdk.Together]:
    """Together's SDK, talking to the server."""
    with together_sdk.Together(api_key="k", base_url=together.base_url, max_retries=0) as sdk:
        yield sdk


@pytest.fixture
def openai_sdk(together) -> Iterator[openai.OpenAI]:
    """OpenAI's SDK, talking to the server."""
    url = f"{together.base_url}/v1"
    with openai.OpenAI(api_key="k", base_url=url, max_retries=0) as sdk:
        yield sdk


def refusal(response: httpx2.Response) -> tuple[int, str, str | None]:
    """What an error says, in short."""
    error = response.json()["error"]
    return response.status_code, error["type"], error["param"]


def mp3_frames(content: bytes) -> list[int]:
    """The sample rates of an MP3's frames, each of which must begin where the last one ends."""
    rates = []
    while content:
        (head,) = struct.unpack(">I", content[:4])
        assert head >> 21 == 0b111_1111_1111
        assert head >> 17 & 0b11 == 0b01, "layer 3"
        version = head >> 19 & 0b11
        rate = [44100, 48000, 32000][head >> 10 & 0b11] >> {0b11: 0, 0b10: 1, 0b00: 2}[version]
        bits = BIT_RATES[version == 0b11][(head >> 12 & 0b1111) - 1] * 1000
        size = (144 if version == 0b11 else 72) * bits // rate
        assert len(content) >= size
        content = content[size:]
        rates.append(rate)
    return rates


def test_speech_is_a_wav_file_unless_asked_otherwise(sdk):
    """The sdk gets a file that plays, longer for a longer text, at the model's own rate."""
    short = sdk.audio.speech.create(**KOKORO).read()
    long = sdk.audio.speech.create(**KOKORO | {"input": " ".join(["Hello big world"] * 3)}).read()
    with wave.open(io.BytesIO(short)) as one, wave.open(io.BytesIO(long)) as other:
        assert one.getframerate() == other.getframerate() == 24000
        assert one.getnchannels() == 1
        assert other.getnframes() == 3 * one.getnframes()


@pytest.mark.parametrize(
    ("change", "content_type"),
    [
        ({}, "audio/wav"),
        ({"response_format": "wav"}, "audio/wav"),
        ({"response_format": "mp3"}, "audio/mpeg"),
        ({"response_format": "raw"}, "application/octet-stream"),
    ],
)
def test_each_format_has_its_content_type(client, change, content_type):
    """The header says what the file is."""
    assert client.post(SPEECH, json=SONIC | change).headers["content-type"] == content_type


@pytest.mark.parametrize(
    ("encoding", "sample_rate", "sample"),
    [
        ("pcm_f32le", 44100, struct.pack("<f", 0)),
        ("pcm_s16le", 16000, struct.pack("<h", 0)),
        ("pcm_mulaw", 8000, b"\xff"),
        ("pcm_alaw", 8000, b"\xd5"),
    ],
)
def test_raw_speech_is_silence_in_the_encoding_asked_for(client, encoding, sample_rate, sample):
    """0.3 seconds a word, in samples of the encoding's own silence."""
    body = {"response_format": "raw", "response_encoding": encoding, "sample_rate": sample_rate}
    content = client.post(SPEECH, json=SONIC | body).content
    assert content == sample * round(0.9 * sample_rate)


def test_some_models_take_no_wishes(client):
    """Kokoro speaks at 24 kHz in 16 bits, whatever is asked of it."""
    body = {"response_format": "raw", "response_encoding": "pcm_alaw", "sample_rate": 8000}
    assert client.post(SPEECH, json=KOKORO | body).content == bytes(2 * round(0.9 * 24000))


@settings(deadline=None)
@given(
    st.floats(0, 3),
    st.sampled_from(sounds.MP3_RATES),
    st.sampled_from([32000, 64000, 96000, 128000, 192000]),
)
def test_an_mp3_file_is_made_of_whole_frames(seconds, sample_rate, bit_rate):
    """Every frame has a valid head, and together they last long enough."""
    rates = mp3_frames(sounds.mp3(seconds, sample_rate, bit_rate))
    assert set(rates) <= {sample_rate}
    samples = 1152 if sample_rate >= 32000 else 576
    assert seconds <= len(rates) * samples / sample_rate < seconds + 0.1


def test_openais_sdk_gets_speech_as_well(openai_sdk):
    """Its default is mp3 by name."""
    response = openai_sdk.audio.speech.create(**SONIC, response_format="mp3")
    assert set(mp3_frames(response.content)) == {44100}


def test_streamed_speech_is_the_same_sound_in_frames(sdk, client):
    """Each frame of the stream carries base64, and together they are the raw file."""
    stream = sdk.audio.speech.create(**SONIC, response_format="raw", stream=True)
    chunks = list(stream)
    assert {chunk.object for chunk in chunks} == {"audio.tts.chunk"}
    assert {chunk.model for chunk in chunks} == {"cartesia/sonic"}
    whole = client.post(SPEECH, json=SONIC | {"response_format": "raw"}).content
    assert b"".join(b64decode(chunk.b64) for chunk in chunks) == whole
    text = client.post(SPEECH, json=SONIC | {"response_format": "raw", "stream": True}).text
    assert text.endswith("\n\ndata: [DONE]\n\n")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "model"),
        ({"input": None}, "input"),
        ({"voice": None}, "voice"),
        ({"stream": True}, "response_format"),
        ({"stream": True, "response_format": "mp3"}, "response_format"),
        ({"response_format": "ogg"}, None),
        ({"response_encoding": "pcm_s24le"}, None),
        ({"sample_rate": 0}, None),
        ({"sample_rate": 10**9}, None),
        ({"sample_rate": 8001, "response_format": "mp3"}, None),
        ({"bit_rate": 100_000}, None),
        ({"model": "openai/gpt-oss-20b"}, None),
    ],
)
def test_speech_that_cannot_be_is_refused(client, change, param):
    """A body that will not do gets the API's error."""
    response = client.post(SPEECH, json=SONIC | change)
    assert refusal(response) == (400, "invalid_request_error", param)


def test_voices_are_listed_by_model(sdk, client):
    """Every voice has an id and a name; one model's can be had alone."""
    listed = {row.model: row.voices for row in sdk.audio.voices.list().data}
    assert [voice.name for voice in listed["canopylabs/orpheus-3b-0.1-ft"]] == ["tara"]
    (row,) = client.get("/v1/voices?model=hexgrad/Kokoro-82M").json()["data"]
    assert {"id": "af_alloy", "name": "af_alloy"} in row["voices"]


def test_both_sdks_read_a_scripted_transcription(together, sdk, openai_sdk):
    """What a test says is what was heard."""
    together.script.say("Hello there.", "Hello again.")
    ours = sdk.audio.transcriptions.create(model="openai/whisper-large-v3", file=SOUND)
    theirs = openai_sdk.audio.transcriptions.create(model="openai/whisper-large-v3", file=SOUND)
    assert (ours.text, theirs.text) == ("Hello there.", "Hello again.")


def test_an_empty_script_hears_the_name_of_the_file(sdk):
    """A server nobody scripted still answers, the same every time, and knows its model."""
    texts = {sdk.audio.transcriptions.create(file=SOUND).text for _ in "12"}
    assert texts == {"The loopback server heard: talk.wav"}


def test_a_plain_transcription_is_its_text_and_no_more(client):
    """The body has one key."""
    body = client.post(TRANSCRIPTIONS, files={"file": SOUND}).json()
    assert list(body) == ["text"]


def test_a_file_can_be_an_address(together, client):
    """An address is not fetched: nothing leaves this machine."""
    together.script.say("Hello there.")
    body = {"file": (None, "https://example.com/talk.mp3")}
    assert client.post(TRANSCRIPTIONS, files=body).json() == {"text": "Hello there."}


def test_a_verbose_transcription_tells_the_times(together, sdk):
    """Sentences and words are spread over the length of the sound, with their speakers."""
    together.script.say(SAID)
    heard = sdk.audio.transcriptions.create(
        file=SOUND,
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
        diarize=True,
    )
    assert (heard.duration, heard.language, heard.text) == (6.0, "en", SAID)
    assert [segment.text for segment in heard.segments] == ["Hello there.", "How are you?", "Fine"]
    assert [word.word for word in heard.words] == SAID.split()
    assert heard.segments[-1].end == heard.words[-1].end == 6.0
    speakers = [segment.speaker_id for segment in heard.speaker_segments]
    assert speakers == ["SPEAKER_00", "SPEAKER_01", "SPEAKER_00"]
    spoken = [word for segment in heard.speaker_segments for word in segment.words]
    assert [word.to_dict() for word in spoken] == [word.to_dict() for word in heard.words]


def test_words_and_speakers_come_only_where_asked_for(together, client):
    """A verbose answer has sentences, and no more unless it is asked for."""
    together.script.say(SAID, SAID)
    form = {"response_format": "verbose_json"}
    plain = client.post(TRANSCRIPTIONS, data=form, files={"file": SOUND}).json()
    assert list(plain) == ["task", "language", "duration", "text", "segments"]
    form |= {"timestamp_granularities": "word"}
    worded = client.post(TRANSCRIPTIONS, data=form, files={"file": SOUND}).json()
    assert set(worded["words"][0]) == {"word", "start", "end"}


def test_as_many_speak_as_are_said_to(together, client):
    """The bounds on the number of speakers are kept."""
    together.script.say("A. B. C. D.", "A. B. C. D.")
    form = {"response_format": "verbose_json", "diarize": "true"}
    bodies = [
        client.post(TRANSCRIPTIONS, data=form | bound, files={"file": SOUND}).json()
        for bound in ({"min_speakers": "3"}, {"max_speakers": "1"})
    ]
    speakers = [{each["speaker_id"] for each in body["speaker_segments"]} for body in bodies]
    assert speakers == [{"SPEAKER_00", "SPEAKER_01", "SPEAKER_02"}, {"SPEAKER_00"}]


@settings(deadline=None)
@given(st.text(), st.floats(0, 10**5), st.integers(1, 5))
def test_times_only_go_forward(text, seconds, speakers):
    """Whatever is said, words follow each other within the sound, and none is lost."""
    transcript = Transcript(text, seconds, speakers)
    words = transcript.words()
    assert [word["word"] for word in words] == text.split()
    times = [time for word in words for time in (word["start"], word["end"])]
    assert all(0 <= a <= b <= seconds + 0.001 for a, b in itertools.pairwise(times))
    assert [word for part in transcript.speaker_segments() for word in part["words"]] == words


def test_a_translation_has_its_target_language(together, sdk):
    """Translations are scripted and read as transcriptions are."""
    together.script.say("Hola.")
    translated = sdk.audio.translations.create(
        file=SOUND, language="es", response_format="verbose_json"
    )
    assert (translated.text, translated.language) == ("Hola.", "es")
    assert translated.task == "translate"


@pytest.mark.parametrize(
    ("form", "file", "expected"),
    [
        ({}, None, (400, "invalid_request_error", "file")),
        ({}, ("a.txt", b"text"), (400, "unsupported_format", "file")),
        ({}, ("a.wav", b""), (400, "unsupported_format", "file")),
        ({"file": "ftp://example.com/a.wav"}, None, (400, "invalid_params", "file")),
        ({"response_format": "srt"}, SOUND, (400, "invalid_params", "response_format")),
        ({"temperature": "2"}, SOUND, (400, "invalid_params", "temperature")),
        ({"temperature": "hot"}, SOUND, (400, "invalid_params", "temperature")),
        ({"diarize": "perhaps"}, SOUND, (400, "invalid_params", "diarize")),
        ({"min_speakers": "inf"}, SOUND, (400, "invalid_params", "min_speakers")),
        (
            {"min_speakers": "3", "max_speakers": "2"},
            SOUND,
            (400, "invalid_params", "min_speakers"),
        ),
        (
            {"timestamp_granularities[]": ["word", "letter"]},
            SOUND,
            (400, "invalid_params", "timestamp_granularities"),
        ),
        ({"model": "openai/gpt-oss-20b"}, SOUND, (400, "invalid_params", "model")),
        ({"model": "x/y"}, SOUND, (404, "invalid_request_error", None)),
    ],
)
def test_a_form_that_will_not_do_is_refused(client, form, file, expected):
    """Each field is checked, and the error names the one that is wrong."""
    # An empty part makes a form of what would be sent in another format.
    files = [("file", file)] if file else [("other", ("other", b"x"))]
    assert refusal(client.post(TRANSCRIPTIONS, data=form, files=files)) == expected


def test_a_body_that_is_no_form_is_refused(client):
    """The error says what was expected."""
    response = client.post(TRANSCRIPTIONS, json={"file": "https://example.com/a.wav"})
    assert response.status_code == 400
    assert "expected multipart/form-data" in response.json()["error"]["message"]


def test_a_sound_longer_than_four_hours_is_refused(client):
    """The length is read from the file."""
    # The head alone promises the samples.
    head = sounds.wav(0, 8000)[:-4] + struct.pack("<I", 2 * 8000 * 4 * 3600 + 2)
    response = client.post(TRANSCRIPTIONS, files={"file": ("long.wav", head)})
    assert refusal(response) == (400, "audio_too_long", "file")


def test_an_upload_of_more_than_80_megabytes_is_refused(client):
    """The SDKs raise APIStatusError for it, and do not try again."""
    content = bytes(80 * 1024 * 1024 + 1)
    response = client.post(TRANSCRIPTIONS, files={"file": ("big.wav", content)})
    assert refusal(response) == (413, "request_too_large", "file")


def test_failures_and_cuts_are_scripted_as_for_chat(together, client, sdk):
    """An error is raised, and a cut breaks the connection."""
    together.script.fail(Failure.error(500, "Processing failed", type="processing_failed"))
    with pytest.raises(together_sdk.InternalServerError, match="processing_failed"):
        sdk.audio.transcriptions.create(file=SOUND)
    together.script.reply(Reply(SAID, cut_after=1))
    with pytest.raises(httpx2.RemoteProtocolError):
        client.post(TRANSCRIPTIONS, files={"file": SOUND})


async def test_async_sdks_transcribe_as_well(together):
    """The async client sends the same form."""
    together.script.say("Hello there.")
    async with together_sdk.AsyncTogether(api_key="k", base_url=together.base_url) as sdk:
        heard = await sdk.audio.transcriptions.create(file=SOUND)
    assert heard.text == "Hello there."
