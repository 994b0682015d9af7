"""Keys from HashiCorp Vault, against a server that answers as Vault's HTTP API does."""

from __future__ import annotations

import json
import threading
import traceback
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from aideon_core.config import Secret
from aideon_core.errors import ConfigError, MissingDependency, MissingKey
from aideon_core.keys import KeyRing, Vault

TOKEN = "hvs.canary-token"
CANARY = "canary-key-8d1f"


@dataclass
class LoopbackVault:
    """Vault's HTTP API as far as reading secrets goes: the KV engine in both versions."""

    tokens: set[str] = field(default_factory=lambda: {TOKEN})
    namespace: str | None = None
    sealed: bool = False
    version_1: dict[str, dict[str, object]] = field(default_factory=dict)
    version_2: dict[str, list[dict[str, object] | None]] = field(default_factory=dict)
    reads: int = 0
    address: str = ""

    def answer(self, path, headers):
        """The status and body for a GET of the path."""
        self.reads += 1
        if self.sealed:
            return 503, {"errors": ["Vault is sealed"]}
        if headers.get("X-Vault-Request") != "true":
            return 400, {"errors": ["missing 'X-Vault-Request' header"]}
        known = headers.get("X-Vault-Token") in self.tokens
        if not known or headers.get("X-Vault-Namespace") != self.namespace:
            return 403, {"errors": ["permission denied"]}
        return self.read(path)

    def read(self, path):
        """The status and body for whoever may read."""
        mount, _, rest = path.removeprefix("/v1/").partition("/")
        if mount == "kv":
            found = self.version_1.get(rest)
            return (200, self.secret(found, 2764800)) if found else (404, {"errors": []})
        if not rest.startswith("data/"):
            told = "Invalid path for a versioned K/V secrets engine."
            return 404, {"request_id": "r", "data": None, "warnings": [told]}
        versions = self.version_2.get(rest.removeprefix("data/"))
        if not versions:
            return 404, {"errors": []}
        deleted = "2026-11-22T10:00:00Z" if versions[-1] is None else ""
        metadata = {"version": len(versions), "deletion_time": deleted, "destroyed": False}
        body = self.secret({"data": versions[-1], "metadata": metadata}, 0)
        return (404 if deleted else 200), body

    @staticmethod
    def secret(data, lease_duration):
        """The envelope of everything that Vault reads."""
        return {
            "request_id": "8a1b",
            "lease_id": "",
            "renewable": False,
            "lease_duration": lease_duration,
            "data": data,
            "wrap_info": None,
            "warnings": None,
            "auth": None,
        }


@pytest.fixture
def vault(monkeypatch, tmp_path):
    """A Vault on this machine, with the environment pointing at it."""
    state = LoopbackVault()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, body = state.answer(self.path, self.headers)
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("VAULT_ADDR", state.address)
        monkeypatch.setenv("VAULT_TOKEN", TOKEN)
        monkeypatch.delenv("VAULT_NAMESPACE", raising=False)
        yield state
        server.shutdown()
        thread.join()


def plain(source):
    return [key.reveal() for key in source.read()]


def test_both_versions_of_the_engine_are_read(vault):
    """A secret of KV version 2 and one of version 1 are read by their API paths."""
    vault.version_2["together"] = [{"api_key": "older"}, {"api_key": CANARY, "note": "x"}]
    vault.version_1["together"] = {"api_key": "one"}
    assert plain(Vault("secret/data/together")) == [CANARY]
    assert plain(Vault("/kv/together/")) == ["one"]
    assert KeyRing.of("vault:kv/together#api_key").lease().source == "Vault's kv/together#api_key"


def test_a_field_may_hold_several_keys(vault):
    """A list, or a text with commas or lines, is as many keys."""
    vault.version_2["together"] = [{"list": ["a", "b"], "text": "c, d\ne"}]
    assert plain(Vault("secret/data/together", "list")) == ["a", "b"]
    assert plain(Vault("secret/data/together", "text")) == ["c", "d", "e"]


def test_a_version_1_secret_may_have_fields_of_any_name(vault):
    """A field called data, or metadata, is a field like any other in version 1."""
    vault.version_1["odd"] = {"data": "a", "metadata": "b"}
    assert plain(Vault("kv/odd", "data")) == ["a"]


def test_the_namespace_is_sent(vault, monkeypatch):
    """VAULT_NAMESPACE, or namespace=, is told to Vault Enterprise."""
    vault.namespace = "team/llm"
    vault.version_1["together"] = {"api_key": "a"}
    with pytest.raises(ConfigError, match="VAULT_NAMESPACE"):
        Vault("kv/together").read()
    assert plain(Vault("kv/together", namespace="team/llm")) == ["a"]
    monkeypatch.setenv("VAULT_NAMESPACE", "team/llm")
    assert plain(Vault("kv/together")) == ["a"]


def test_arguments_come_before_the_environment(vault, monkeypatch):
    """An address and a token that are given are used."""
    vault.version_1["together"] = {"api_key": "a"}
    monkeypatch.setenv("VAULT_ADDR", "http://127.0.0.1:9")
    monkeypatch.setenv("VAULT_TOKEN", "wrong")
    given = Vault("kv/together", address=vault.address, token=Secret(TOKEN))
    assert plain(given) == ["a"]
    assert plain(Vault("kv/together", address=vault.address, token=f"{TOKEN}\n")) == ["a"]


def test_the_file_of_vault_login_is_used(vault, monkeypatch, tmp_path):
    """Without VAULT_TOKEN, the token that `vault login` left is sent."""
    monkeypatch.delenv("VAULT_TOKEN")
    vault.version_1["together"] = {"api_key": "a"}
    with pytest.raises(ConfigError, match="does not let this token read"):
        Vault("kv/together").read()
    (tmp_path / ".vault-token").write_text(TOKEN)
    assert plain(Vault("kv/together")) == ["a"]


@pytest.mark.parametrize(
    ("path", "wanted", "said"),
    [
        ("secret/data/none", "api_key", "has nothing at secret/data/none"),
        ("secret/together", "api_key", "data comes after the mount"),
        ("secret/data/gone", "api_key", "or has deleted it"),
        ("secret/data/together", "key", "no field 'key'.* Its fields are api_key, empty, number"),
        ("secret/data/together", "number", "has to be text, not a int"),
        ("secret/data/together", "empty", "is empty"),
    ],
)
def test_what_is_not_there_is_told(vault, path, wanted, said):
    """A wrong path, a deleted version and a wrong field each say what to change."""
    vault.version_2["gone"] = [{"api_key": "a"}, None]
    vault.version_2["together"] = [{"api_key": CANARY, "number": 3, "empty": " "}]
    with pytest.raises(ConfigError, match=said) as raised:
        Vault(path, wanted).read()
    assert "canary" not in shown(raised.value)


def shown(error):
    """The error as a tool prints it that shows local variables, below the test's own frame."""
    trace = traceback.TracebackException(
        type(error), error, error.__traceback__.tb_next, capture_locals=True
    )
    return "".join(trace.format())


def test_a_sealed_or_absent_vault_is_told(vault):
    """A sealed Vault and a wrong address are errors that name the address, without its user."""
    vault.sealed = True
    with pytest.raises(ConfigError, match=f"{vault.address} is sealed") as sealed:
        Vault("kv/together").read()
    nowhere = Vault("kv/together", address="http://me:canary-pw@127.0.0.1:9")
    with pytest.raises(ConfigError, match="127.0.0.1:9 could not be reached") as absent:
        nowhere.read()
    assert "canary" not in f"{shown(sealed.value)}{shown(absent.value)}"


def test_the_token_is_in_no_error(vault, monkeypatch):
    """Vault's own token shows up in no error, also where it cannot be sent."""
    for token in ("canary-expired", "canary\x00stray"):
        source = Vault("kv/together", token=token)
        with pytest.raises(ConfigError) as raised:
            source.read()
        assert "canary" not in f"{shown(raised.value)}{source!r}"


def test_an_expired_token_stops_no_call_while_the_key_works(vault):
    """When Vault refuses its token, the key it gave before stays; a new token heals it."""
    now = [0.0]
    vault.version_1["together"] = {"api_key": "old"}
    ring = KeyRing(Vault("kv/together", ttl=10.0), clock=lambda: now[0])
    old = ring.lease()
    vault.tokens.clear()
    now[0] += 10.0
    assert ring.lease() == old
    vault.version_1["together"] = {"api_key": "new"}
    assert not ring.refused(old)
    vault.tokens.add(TOKEN)
    now[0] += 1.0
    assert ring.lease().reveal() == "new"


def test_without_any_answer_the_ring_tells_vaults_reason(vault):
    """MissingKey says what Vault said."""
    vault.tokens.clear()
    with pytest.raises(MissingKey, match="does not let this token read kv/together"):
        KeyRing.of("vault:kv/together#key").lease()


async def test_vault_is_asked_once_per_ttl(vault):
    """A hundred awaited calls cost one read."""
    vault.version_1["together"] = {"api_key": "a"}
    ring = KeyRing.of("vault:kv/together#api_key")
    for _ in range(100):
        assert (await ring.alease()).reveal() == "a"
    assert vault.reads == 1


def test_without_hvac_the_extra_is_named(vault, monkeypatch):
    """A missing package is an error with the command that installs it."""
    monkeypatch.setitem(__import__("sys").modules, "hvac", None)
    with pytest.raises(MissingDependency, match=r"aideon-core\[vault\]"):
        Vault("kv/together").read()
