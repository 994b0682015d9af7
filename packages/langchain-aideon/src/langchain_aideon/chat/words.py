"""The words of a constructor: which there are, and what other chat models' are called here."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

from aideon_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic.fields import FieldInfo

_MODEL: Final = "Name a cloud's model as cloud= and a local one as local=; model= goes to a call."
_EACH: Final = "Give each parameter by its own name, such as top_k=, here or to a call."
_USAGE: Final = "Leave it out: every answer tells its usage, streamed or not."
_ELSEWHERE: Final[Mapping[str, str]] = {
    "model": _MODEL,
    "model_name": _MODEL,
    "model_id": _MODEL,
    "model_provider": 'Leave it out, or name a host in cloud=, as in "groq:model".',
    "together_api_key": "Write api_key=.",
    "openai_api_key": "Write api_key=.",
    "together_api_base": "Write base_url=.",
    "openai_api_base": "Write base_url=.",
    "request_timeout": "Write timeout=, or deadline= for the whole answer.",
    "max_completion_tokens": "Write max_tokens=.",
    "stop_sequences": "Write stop=.",
    "model_kwargs": _EACH,
    "extra_body": _EACH,
    "stream_usage": _USAGE,
    "stream_options": _USAGE,
    "response_format": "Give it to a call, or use with_structured_output.",
}


def check(given: Iterable[str], fields: Mapping[str, FieldInfo], owner: str) -> None:
    """Refuse a word that there is none of; a value, which may be a key, is not repeated.

    Raises:
        ConfigError: says what to write instead.
    """
    known = {*fields, *(each.alias for each in fields.values() if each.alias)}
    for name in given:
        if name in known:
            continue
        near = difflib.get_close_matches(name, fields, n=1)
        hint = _ELSEWHERE.get(name) or (
            f"Did you mean {near[0]}=?" if near else f"See help({owner}) for what it takes."
        )
        raise ConfigError(f"{owner} takes no {name}=.", hint=hint)
