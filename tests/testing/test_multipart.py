"""Forms sent as multipart/form-data."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aideon_testing.faults import Failure
from aideon_testing.multipart import FormFile, parse

HEAD = "multipart/form-data; boundary=x"
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1)


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(NAMES, st.lists(st.text(st.characters(codec="utf-8")), min_size=1)),
    st.lists(st.tuples(NAMES, NAMES, st.binary())),
)
def test_what_a_client_sends_is_what_is_read(fields, files):
    """Any names, texts and bytes come out as they went in, in their order."""
    parts = [(name, (filename, content, "audio/wav")) for name, filename, content in files]
    # A form without files would be sent in another format.
    parts.append(("last", ("last", b"", "text/plain")))
    request = httpx.Request("POST", "http://localhost", data=fields, files=parts)
    form = parse(request.headers["content-type"], request.read())
    assert form.fields == fields
    read = [(name, file) for name, group in form.files.items() for file in group]
    sent = [(name, FormFile(*file[:1], file[2], file[1])) for name, file in parts]
    assert sorted(read, key=repr) == sorted(sent, key=repr)


def test_the_first_of_several_is_easy_to_get():
    """Both field() and file() give the first value of a name, or nothing."""
    content = b'--x\r\ncontent-disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n'
    form = parse(HEAD, content)
    assert (form.field("a"), form.field("b"), form.file("a")) == ("1", None, None)


def test_a_file_name_can_say_its_encoding():
    """Names in the extended notation are read as well."""
    part = b"--x\r\nContent-Disposition: form-data; name=f; filename*=UTF-8''%C3%A9.wav\r\n\r\n"
    assert parse(HEAD, part + b"\r\n--x--").file("f").filename == "é.wav"


def test_a_percent_sign_in_a_file_name_stays():
    """Only what forms escape is put back."""
    part = b'--x\r\ncontent-disposition: form-data; name="f"; filename="50%20 %22.wav"\r\n\r\n'
    file = parse(HEAD, part + b"\r\n--x--").file("f")
    assert file == FormFile('50%20 ".wav', "text/plain", b"")


@pytest.mark.parametrize(
    ("head", "content", "reason"),
    [
        ("application/json", b"{}", "expected multipart/form-data"),
        ("multipart/form-data", b"--x--", "expected multipart/form-data with a boundary"),
        (HEAD, b"", "does not end with its boundary"),
        (HEAD, b"--x\r\ncontent-disposition: form-data; name=a\r\n\r\n1", "does not end"),
        (HEAD, b"--x\r\nno end of headers\r\n--x--", "no empty line"),
        (HEAD, b"--x\r\ncontent-type: text/plain\r\n\r\n1\r\n--x--", "has no name"),
    ],
)
def test_a_form_that_cannot_be_read_is_a_bad_request(head, content, reason):
    """The error says what is wrong with the form."""
    with pytest.raises(Failure, match=reason) as caught:
        parse(head, content)
    assert caught.value.status == 400
