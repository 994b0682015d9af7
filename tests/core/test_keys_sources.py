"""Where keys come from: fixed ones, the environment, files, functions, specs."""

from __future__ import annotations

import os
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aideon_core.config import Secret
from aideon_core.errors import ConfigError, MissingKey
from aideon_core.keys import Called, Environment, File, Fixed, Key, KeyRing

CANARY = "canary-key-8d1f"
keys = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#,"), min_size=1
)


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch):
    for name in ("TOGETHER_API_KEYS", "TOGETHER_API_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)


def plain(read):
    return [key.reveal() for key in read]


def test_one_key_or_several_are_taken_as_they_are():
    """api_key= takes a key, a Secret, and a list of both."""
    assert KeyRing.of("abc").lease().reveal() == "abc"
    assert KeyRing.of(Secret("abc")).lease().reveal() == "abc"
    ring = KeyRing.of(["a", Secret("b"), "a"])
    assert {ring.lease().reveal() for _ in range(4)} == {"a", "b"}
    assert KeyRing.of(ring) is ring


@pytest.mark.parametrize("bad", [f"{CANARY}\nx", f"{CANARY}\x00", f"{CANARY}é", "", "  ", "\x7f"])
@pytest.mark.parametrize("given", [lambda key: key, lambda key: ["good", key], Secret])
def test_text_that_cannot_be_sent_is_refused_and_not_repeated(bad, given):
    """A key with a stray character is an error that does not show it, in no local variable."""
    argument = given(bad)
    with pytest.raises(ConfigError, match="plain printable characters") as raised:
        KeyRing.of(argument)
    ours = raised.value.__traceback__.tb_next
    shown = traceback.TracebackException(
        ConfigError, raised.value, ours, capture_locals=True
    ).format()
    assert "canary" not in "".join(shown)


@pytest.mark.parametrize("wrong", [3, None, b"abc", object(), {"key": "abc"}, [["a"]]])
def test_what_gives_no_key_is_refused(wrong):
    """A number, bytes or a nested list in api_key= is an error that says what it takes."""
    with pytest.raises(ConfigError, match="It takes a key, a spec"):
        KeyRing.of(wrong)


def test_the_environment_is_read_when_a_key_is_needed(monkeypatch):
    """A key that is set after the ring was made counts, and one that is unset counts no more."""
    ring = KeyRing(Environment())
    assert isinstance(ring.unavailable(), MissingKey)
    monkeypatch.setenv("TOGETHER_API_KEY", " first \n")
    assert ring.unavailable() is None
    assert ring.lease().reveal() == "first"
    monkeypatch.setenv("TOGETHER_API_KEY", "second")
    assert ring.lease().reveal() == "second"
    monkeypatch.delenv("TOGETHER_API_KEY")
    with pytest.raises(MissingKey, match="Set TOGETHER_API_KEY or pass api_key="):
        ring.lease()


def test_three_variables_are_put_together(monkeypatch, tmp_path):
    """NAME, NAMES and NAME_FILE all give keys, and each key knows where it came from."""
    file = tmp_path / "key"
    file.write_text("d\n")
    monkeypatch.setenv("GROQ_API_KEY", "a")
    monkeypatch.setenv("GROQ_API_KEYS", "b, c\n a")
    monkeypatch.setenv("GROQ_API_KEY_FILE", str(file))
    read = Environment("GROQ_API_KEY").read()
    assert plain(read) == ["a", "b", "c", "a", "d"]
    assert [key.source for key in read] == [
        "GROQ_API_KEY",
        *["GROQ_API_KEYS"] * 3,
        str(file),
    ]
    ring = KeyRing.of("env:GROQ_API_KEY")
    assert {ring.lease().reveal() for _ in range(4)} == set("abcd")


def test_a_file_named_by_the_environment_is_told_when_it_is_missing(monkeypatch, tmp_path):
    """NAME_FILE that leads nowhere is a MissingKey that names the path."""
    monkeypatch.setenv("TOGETHER_API_KEY_FILE", str(tmp_path / "none"))
    ring = KeyRing(Environment())
    assert ring.unavailable() is None
    with pytest.raises(MissingKey, match=r"none cannot be read: No such file"):
        ring.lease()


@given(st.lists(keys, min_size=1), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_a_file_gives_what_was_written_to_it(tmp_path_factory, written, newline, marked):
    """Any keys come back whole, with either line end, a byte order mark or none."""
    path = tmp_path_factory.getbasetemp() / "roundtrip"
    text = newline.join([*written, "# the end", "", "   "])
    path.write_bytes(text.encode("utf-8-sig" if marked else "utf-8"))
    assert plain(File(path).read()) == written


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_comments_and_encodings_are_read_as_editors_write_them(tmp_path, encoding):
    """A comment takes a line or the end of one, also with letters that no key has."""
    path = tmp_path / "keys"
    path.write_text("# für alle\none\n\n  two  # the new one\nthree#3\n", encoding=encoding)
    assert plain(File(path).read()) == ["one", "two", "three#3"]


def test_a_file_of_an_old_encoding_may_have_old_comments(tmp_path):
    """What cannot be decoded matters only where a key should be."""
    path = tmp_path / "keys"
    path.write_bytes("# für\none".encode("latin-1"))
    assert plain(File(path).read()) == ["one"]
    path.write_bytes("für".encode("latin-1"))
    with pytest.raises(ConfigError, match="plain printable"):
        File(path).read()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "cannot be read: No such file"),
        (lambda path: path.mkdir(), "is no key file"),
        (os.mkfifo, "is no key file"),
        (lambda path: path.write_bytes(b"x" * 100_000), "is no key file"),
        (lambda path: path.write_text(""), "holds no key"),
        (lambda path: path.write_text("# only\n"), "holds no key"),
        (lambda path: path.write_text(f"ok\n{CANARY}\x01\n"), "plain printable"),
    ],
)
def test_a_file_without_keys_is_told_by_its_path(tmp_path, make, said):
    """A missing, empty or wrong file is an error with its path and none of its text."""
    path = tmp_path / "the-key"
    make(path)
    with pytest.raises(ConfigError, match=said) as raised:
        File(path).read()
    shown = traceback.TracebackException.from_exception(raised.value, capture_locals=True)
    assert "the-key" in str(raised.value)
    assert "canary" not in "".join(list(shown.format())[2:])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_file_that_may_not_be_read_is_told(tmp_path):
    """A file of somebody else is an error that says so."""
    path = tmp_path / "key"
    path.write_text(CANARY)
    path.chmod(0)
    with pytest.raises(ConfigError, match="Permission denied"):
        File(path).read()


def test_a_refusal_by_the_system_names_the_path(tmp_path, monkeypatch):
    """Whatever reason the system gives for not reading the file is repeated."""
    path = tmp_path / "key"
    path.write_text(CANARY)

    def denied(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(type(path), "read_bytes", denied)
    with pytest.raises(ConfigError, match=f"{path} cannot be read: Permission denied"):
        File(path).read()


def test_a_mounted_secret_is_followed_through_its_links(tmp_path):
    """Kubernetes changes a secret by turning a link to a new folder; the new key is read."""
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "key").write_text(version)
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "key").symlink_to("..data/key")
    source = File(tmp_path / "key")
    assert plain(source.read()) == ["one"]
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").replace(tmp_path / "..data")
    assert plain(source.read()) == ["two"]


def test_a_function_gives_one_key_or_several():
    """A function may return a text, a Secret, or a list of them."""
    for answer in ("a", Secret("a"), ["a"], ("a",), [Secret("a")], {"a"}):
        assert plain(Called(lambda answer=answer: answer).read()) == ["a"]
    assert KeyRing.of(lambda: ["a", "a"]).lease().reveal() == "a"


@pytest.mark.parametrize("given", [None, [], 3, [CANARY, 3], f"{CANARY}\n.", b"abc"])
def test_a_function_that_gives_no_key_is_told(given):
    """What a function returns in place of a key is named by its type and not repeated."""

    def wallet():
        return given

    with pytest.raises(ConfigError, match="wallet") as raised:
        Called(wallet).read()
    ours = raised.value.__traceback__.tb_next
    shown = traceback.TracebackException(
        ConfigError, raised.value, ours, capture_locals=True
    ).format()
    assert "canary" not in "".join(shown)


def test_a_coroutine_function_is_refused_with_the_way_out():
    """Keys are asked of plain functions: one that has to be awaited is told at once."""

    async def wallet():
        return "a"

    with pytest.raises(ConfigError, match="called in a thread"):
        Called(wallet)
    with pytest.raises(ConfigError, match="called in a thread"):
        Called(lambda: (wallet(), "b")).read()


@pytest.mark.parametrize(
    ("spec", "source"),
    [
        ("env:GROQ_API_KEY", "Environment('GROQ_API_KEY')"),
        ("file:/run/secrets/key", "File('/run/secrets/key')"),
        ("file:key", "File('key')"),
        ("keyring:together/me", "SystemKeyring('together', 'me')"),
        ("keyring:https://api.together.ai/me", "SystemKeyring('https://api.together.ai', 'me')"),
        ("vault:secret/data/together#key", "Vault('secret/data/together', 'key')"),
        ("vault:secret/data/together", "Vault('secret/data/together', 'api_key')"),
        ("tgp_v1:abc", "Fixed(***)"),
    ],
)
def test_a_spec_names_a_source(spec, source):
    """A text with one of four prefixes is a place; any other text is a key."""
    assert repr(KeyRing.of(spec)) == f"KeyRing({source})"


@pytest.mark.parametrize("spec", ["env:", "file:", "keyring:", "keyring:x", "keyring:/x", "vault:"])
def test_a_spec_that_is_not_whole_is_refused(spec):
    """A prefix without a place is an error that shows how it is written."""
    with pytest.raises(ConfigError, match=f"Write {spec.partition(':')[0]}:"):
        KeyRing.of(spec)


def test_specs_and_sources_mix():
    """A list may hold keys, specs, sources and functions at once."""
    ring = KeyRing.of(["a", "env:NO_SUCH_KEY", Fixed("b"), lambda: "c"])
    assert {ring.lease().reveal() for _ in range(3)} == set("abc")


def test_keys_are_equal_by_value():
    """The same key from two places is one key."""
    assert Key("a", "here") == Key("a", "there")
    assert len({Key("a", "here"), Key("a", "there")}) == 1
